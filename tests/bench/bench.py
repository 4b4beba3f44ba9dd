"""Time verification beside its floor and beside pymacaroons: one run, interleaved, as ratios.

Work per row: a chain of L hops, each with a hop, an allowlist of two entries of which one constrains two arguments,
`expires`, `max_hops` and a `where`; presented for one call. capx decodes the text, checks the chain and the
presentation, burns it, looks at deaths and judges every caveat. The floor is the MACs of the same bytes and the
comparison. pymacaroons deserialises the same bytes and checks the MACs with a predicate that accepts everything: it
judges nothing, so it does less. Every presentation is fresh: none is verified twice.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from capx import AudienceKeys, Capability, Replay, RootKey, ToolCall, Verifier, action, between, chain, max_hops, wire
from capx.capability import mint
from capx.chain import unb64u
from capx_caveats import Call, Expires, Root, Task, Tenant, UntilCompleted, allow, expires, where

HOPS = (1, 3, 8)
CALL = Call("crm.read", {"id": 42, "limit": 5}, tenant="Acme", attributes={"env": "prod"})
RECEIVED = ToolCall("crm.read", {"id": 42, "limit": 5})


class NoDeaths:
    """A view in which nobody died, as fresh as can be."""

    deaths: Mapping[bytes | str, str] = {}

    def age(self) -> float:
        """Nothing is old."""
        return 0.0


def chain_of(hops: int, root: RootKey, now: int) -> Capability:
    """A capability with that many hops, five caveats each."""
    authority = (
        Task("task"),
        Root("root"),
        UntilCompleted("task"),
        Expires(now + 3600),
        Tenant("Acme"),
        allow("crm.*"),
    )
    capability = mint(root.audience_key("crm"), authority, now=now)
    for hop in range(hops):
        capability = capability.delegate(
            to=f"agent-{hop}",
            allow=[action("crm.read", id=42, limit=between(1, 50)), "crm.list"],
            caveats=[expires("30m"), max_hops(hops - 1 - hop), where("env", "prod")],
        )
    return capability


def contenders(hops: int, count: int) -> dict[str, Callable[[], float]]:
    """What is timed at one length: each does `count` verifications of fresh presentations and gives the seconds."""
    from pymacaroons import Macaroon
    from pymacaroons import Verifier as Peer

    now = int(time.time())
    root = RootKey.generate()
    keys = AudienceKeys("crm", [root.audience_key("crm")])
    key = root.audience_key("crm")
    capability = chain_of(hops, root, now)
    replay_up = now - 3600

    def verifier(cache_size: int) -> Verifier:
        replay = Replay.process(10_000_000, clock=lambda: replay_up)
        return Verifier("crm", keys, liveness=NoDeaths(), replay=replay, cache_size=cache_size)

    cold, warm = verifier(0), verifier(1024)

    def texts() -> list[str]:
        return [capability.present(RECEIVED).text for _ in range(count)]

    def capx(which: Verifier) -> float:
        presented = texts()
        start = time.perf_counter()
        for text in presented:
            which.verify(text, RECEIVED, CALL)
        return time.perf_counter() - start

    def floor() -> float:
        frames = [wire.decode(text) for text in texts()]
        start = time.perf_counter()
        for frame in frames:
            tail = chain.mac(key.mac_key, frame.identifier_bytes)
            for block in frame.blocks:
                tail = chain.extend(tail, block)
            if not chain.equal(tail, frame.signature):
                raise AssertionError("the floor does not hold")
        return time.perf_counter() - start

    def peer() -> float:
        presented = [text.removeprefix(wire.PREFIX) for text in texts()]
        audience_key = unb64u(key.line().split()[-1])
        checker = Peer()
        checker.satisfy_general(lambda _: True)
        start = time.perf_counter()
        for text in presented:
            if not checker.verify(Macaroon.deserialize(text), audience_key):
                raise AssertionError("pymacaroons refuses")
        return time.perf_counter() - start

    return {
        "bare MAC chain": floor,
        "capx, warm prefix": lambda: capx(warm),
        "capx, cold": lambda: capx(cold),
        "pymacaroons, MACs only": peer,
    }


def measure(rounds: int, count: int) -> list[dict[str, Any]]:
    """Time all, in turn, for some rounds; µs per verification as median and quartiles, and the ratio to the floor.

    A ratio is the median of the ratios within each round, so that drift of the machine does not show in it.
    """
    rows: list[dict[str, Any]] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("measuring", total=len(HOPS) * (rounds + 1))
        for hops in HOPS:
            runs = contenders(hops, count)
            taken: dict[str, list[float]] = {name: [] for name in runs}
            for turn in range(rounds + 1):
                for name, run in runs.items():
                    seconds = run()
                    if turn:
                        taken[name].append(seconds / count * 1e6)
                progress.advance(bar)
            floors = taken["bare MAC chain"]
            for name, micros in taken.items():
                low, middle, high = statistics.quantiles(micros, n=4)
                ratio = statistics.median(one / floor for one, floor in zip(micros, floors, strict=True))
                rows.append(
                    {
                        "hops": hops,
                        "what": name,
                        "us": round(middle, 2),
                        "us_quartiles": [round(low, 2), round(high, 2)],
                        "times_floor": round(ratio, 2),
                    }
                )
    return rows


def main() -> None:
    """Measure, print the table, and write the rows to build/bench.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="rounds that count, after one that does not")
    parser.add_argument("--count", type=int, default=400, help="verifications a round")
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"), help="where the rows go")
    options = parser.parse_args()
    rows = measure(options.rounds, options.count)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    about = {"python": platform.python_version(), "machine": platform.machine(), "rows": rows}
    options.out.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    table = Table("hops", "what", "µs (median)", "quartiles", "times floor", title="verify one presentation")
    for row in rows:
        low, high = row["us_quartiles"]
        table.add_row(str(row["hops"]), row["what"], f"{row['us']}", f"{low}-{high}", f"{row['times_floor']}")
    Console(file=sys.stdout).print(table)


if __name__ == "__main__":
    main()
