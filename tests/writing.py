"""A process that writes to a store without end, and says what was acknowledged: `python -m tests.writing PLACE`.

Each line is a JSON object, written when the store has answered and never before. Trouble with the store is waited out.
"""

import json
import os
import random
import sys
import time
from typing import Any

from capx.authority import Authority
from capx.chain import b64u
from capx.errors import StoreProblem
from capx.keys import KeyRing, RootKey
from capx.meter import Spend
from capx.store import Record
from capx.store.opening import open_store
from capx_caveats import amount

COUNTER = ("shared", "eur")
LIMIT = amount("1000000000")
COST = amount("0.1")
AUDIENCES = 3


def acknowledge(**facts: Any) -> None:
    """Say that the store has answered; a line this short is written whole."""
    os.write(1, json.dumps(facts).encode() + b"\n")


def write(authority: Authority, chance: random.Random, tasks: list[str]) -> None:
    """Do one thing, and acknowledge it."""
    store, now = authority.store, int(time.time())
    what = chance.choice(["open", "end", "revoke", "spend", "record", "burn"])
    if what == "end" and tasks:
        task = tasks.pop(chance.randrange(len(tasks)))
        end = chance.choice([authority.complete, authority.withdraw])(task)
        acknowledge(what="end", task=task, end=end.end, position=end.position)
    elif what == "revoke":
        node = chance.randbytes(16)
        acknowledge(what="revoke", key=b64u(node), position=authority.revoke(node).position)
    elif what == "spend":
        total = store.spend([Spend(*COUNTER, COST, LIMIT)], now=now).totals[0]
        acknowledge(what="spend", total=str(total))
    elif what == "record":
        ids = [b64u(chance.randbytes(16)) for _ in range(3)]
        store.record([Record(id_, now, json.dumps({"id": id_, "audience": "crm"}).encode()) for id_ in ids])
        acknowledge(what="record", ids=ids)
    elif what == "burn":
        presentation = chance.randbytes(16)
        store.burn(presentation, until=now + 60, now=now)
        acknowledge(what="burn", presentation=b64u(presentation), until=now + 60)
    else:
        opened = authority.open(allow=["crm.read", "slides.write"], tenant="Acme")
        tasks.append(opened.id)
        acknowledge(what="open", task=opened.id, position=opened.position)


def main(place: str, seed: int) -> None:
    """Write until the end."""
    authority = Authority(open_store(place), KeyRing(RootKey.generate()))
    chance, tasks = random.Random(seed), list[str]()
    acknowledge(what="ready")
    while True:
        try:
            write(authority, chance, tasks)
        except StoreProblem as problem:
            acknowledge(what="problem", says=str(problem))
            time.sleep(0.02)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
