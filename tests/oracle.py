"""What a chain of blocks allows, told a second time: naively, with the standard library, sharing no code.

How names and literals are spelled is left to the tests of the vocabulary. JSON is of any shape.
"""

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

TEXT, NUMBER = re.compile(rb'"(?:[^"\\]|\\.)*"'), re.compile(rb"-?[0-9][0-9.eE+-]*")
MARKS = ("task", "intent", "root", "hop", "max_hops")
Verdict = bool | None
Facts = Mapping[str, Any]


class No(Exception):
    """Not allowed; the class itself stands for a value that is missing."""


def demand(good: bool) -> None:
    if not good:
        raise No


def allows(identifier: bytes, blocks: list[bytes], call: Facts, now: int, deaths: Mapping[bytes | str, str]) -> bool:
    """Whether such a call (action, args, tenant, attributes) may be made."""
    try:
        chain = [parsed(block) for block in blocks]
        claims = {caveat[0]: caveat[1:] for caveat in chain[0]}
        demand({"task", "root", "until_completed", "expires", "allow"} <= claims.keys())
        demand(["until_completed", *claims["task"]] in chain[0])
        demand(call["tenant"] is None or "tenant" in claims)
        demand(not deaths.keys() & mortal(identifier, blocks, chain))
        for at, caveats in enumerate(chain):
            tags = [caveat[0] for caveat in caveats]
            demand(at == 0 or not {"task", "intent", "root"}.intersection(tags))
            demand(all(tags.count(mark) <= 1 for mark in MARKS))
            demand("hop" not in tags[at > 0 :])
            hops = sum(later[0][0] == "hop" for later in chain[at + 1 :])
            demand(all(satisfied(caveat, call, now, hops) for caveat in caveats))
    except (No, ValueError, RecursionError):
        return False
    return True


def parsed(block: bytes) -> list[Any]:
    demand(block.count(b"[") <= 256)
    caveats = json.loads(block.decode(), object_pairs_hook=refuse, parse_constant=refuse)
    demand(type(caveats) is list and 0 < len(caveats) <= 64 and all(type(caveat) is list for caveat in caveats))
    demand(all(-(2**53) < float(number) < 2**53 for number in NUMBER.findall(TEXT.sub(b"", block))))
    return [caveat or ["nothing"] for caveat in caveats]


def refuse(_: object) -> NoReturn:
    raise No


def mortal(identifier: bytes, blocks: list[bytes], chain: list[Any]) -> set[bytes | str]:
    digests = [hashed(b"capx/1/token", identifier)]
    for block in blocks:
        digests.append(hashed(b"capx/1/block", digests[-1], block))
    root, *path = next(caveat[1:] for caveat in chain[0] if caveat[0] == "root")
    nodes = [hashed(b"capx/1/root", root.encode())[:16]]
    steps = [step[1] for steps in path for step in steps]
    for nonce in (*steps, *(caveats[0][2] for caveats in chain if caveats[0][0] == "hop")):
        nodes.append(hashed(b"capx/1/node", nodes[-1], nonce.encode())[:16])
    tasks = {caveat[1] for caveats in chain for caveat in caveats if caveat[0] == "until_completed"}
    return {*tasks, *nodes, *(digest[:16] for digest in digests)}


def hashed(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).digest()


def satisfied(caveat: Any, call: Facts, now: int, hops: int) -> bool:
    match caveat:
        case ["task" | "intent" | "root" | "until_completed", str()] | ["root", str(), list()] | ["hop", str(), str()]:
            return True
        case ["max_hops" | "expires" | "not_before" as tag, n] if type(n) is int and n >= 0:
            return hops <= n if tag == "max_hops" else now < n if tag == "expires" else now >= n
        case ["tenant", name]:
            return bool(call["tenant"] == name)
        case ["allow", list(entries)]:
            return any([entry_allows(call, *entry) for entry in entries])  # noqa: C419 - all are looked at
        case ["where", str(name), constraint]:
            facts = call["args"] if name.startswith("args.") else call["attributes"]
            return judge(constraint, facts.get(name.removeprefix("args."), No)) is True
        case _:
            return False


def entry_allows(call: Facts, pattern: str, pairs: list[list[Any]] | None = None) -> bool:
    demand(pairs is None or len({name for name, _ in pairs}) == len(pairs))
    rules = dict(pairs or [])
    others = rules.pop("*", None)
    named = [judge(constraint, call["args"].get(name, No)) is True for name, constraint in rules.items()]
    rest = [value for name, value in call["args"].items() if name not in rules]
    matches = call["action"] == pattern or (pattern.endswith(".*") and call["action"].startswith(pattern[:-1]))
    return matches and all(named) and (pairs is None or all(others and judge(others, value) for value in rest))


def judge(constraint: Any, value: Any) -> Verdict:
    """True, False, or None: cannot judge."""
    match constraint:
        case ["absent"]:
            return value is No
        case ["not", inner]:
            said = judge(inner, value)
            return None if said is None else not said
        case ["any" | "all" as tag, list(parts)]:
            return kleene([judge(part, value) for part in parts], decisive=tag == "any")
        case ["anything"]:
            return None if value is No else True
        case ["eq", literal]:
            return equal(value, literal)
        case ["in", list(literals)]:
            verdicts = [equal(value, literal) for literal in literals]
            return True if True in verdicts else False if False in verdicts else None
        case ["range", lo, hi]:
            return (lo is None or lo <= value) and (hi is None or value <= hi) if number(value) else None
        case ["prefix", str(text)]:
            return value.startswith(text) if type(value) is str else None
        case ["path", str(root)]:
            wild = type(value) is not str or not value.startswith("/") or any(bad in value for bad in "%\\\0")
            odd = not wild and value != "/" and {"", ".", ".."}.intersection(value[1:].split("/"))
            return None if wild or odd else value == root or value.startswith(root.rstrip("/") + "/")
        case ["each", inner, *least] if type(value) is list:
            said = kleene([judge(inner, element) for element in value], decisive=False)
            return len(value) >= (least or [1])[0] if said else said
        case ["each", _, *_]:
            return None
        case _:
            raise No


def kleene(verdicts: list[Verdict], *, decisive: bool) -> Verdict:
    return decisive if decisive in verdicts else None if None in verdicts else not decisive


def number(value: Any) -> bool:
    return type(value) in {int, float}


def equal(value: Any, literal: Any) -> Verdict:
    if type(value) is list and type(literal) is list:
        verdicts = [equal(one, other) for one, other in zip(value, literal, strict=False)]
        return None if None in verdicts else all(verdicts) and len(value) == len(literal)
    if (
        type(value) in {list, dict}
        or (number(value) != number(literal))
        or not (number(value) or type(value) is type(literal))
    ):
        return None
    return bool(value == literal)
