"""The forms and constraints of the second verifier, from docs/spec/vocabulary.md and its tables in vocabulary.json.

A verdict is True, False, or None: cannot judge. Where the specification says RE2, this takes Python's `re`: good
enough for the patterns that the tests write.
"""

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownLambdaType=false

import json
import re
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from unicodedata import category
from urllib.parse import unquote_to_bytes

Facts = Mapping[Any, Any]
SPEC = json.loads(Path(__file__).parent.parent.joinpath("docs", "spec", "vocabulary.json").read_text("utf-8"))
TEXTS = {name: pattern.replace("$", r"\Z") for name, pattern in SPEC["texts"].items()}
HOSTS = SPEC["hosts"]
SAFE, MISSING = 2**53 - 1, object()
URL = "([a-z][a-z0-9+.-]{1,31})://([^/?#]*?)(:[1-9][0-9]{0,4})?(/[^?]*)([?].+)?"


# Forms


def fits(one: Any, forms: str) -> bool:
    """Whether this has the form of a caveat or constraint."""
    if type(one) is not list or not one or type(one[0]) is not str or one[0] not in SPEC[forms]:
        return False
    kinds = SPEC[forms][one[0]].split()
    least = sum(not kind.endswith("?") for kind in kinds)
    good = least < len(one) <= len(kinds) + 1
    return good and all(map(is_a, (kind.strip("?") for kind in kinds), one[1:])) and coheres(one)


def coheres(one: Any) -> bool:
    """Whether the fields, each of its kind, can stand together."""
    match one:
        case ["range" | "length", lo, hi]:
            return (lo, hi) != (None, None) and (lo is None or hi is None or lo <= hi)
        case ["url", schemes, hosts, ports, *_]:
            return (ports != [] or {*schemes} <= {*HOSTS["own_ports"]}) and not any(map(leads_here, hosts))
        case ["where", fact, rule]:
            return bool(fact.startswith("args.")) or not may_be_absent(rule)
        case _:
            return True


def is_a(kind: str, value: Any) -> bool:
    """Whether a value is of this kind; `x+` is an array of x, `x*` one that may be empty."""
    if kind == "rule":
        return fits(value, "constraints")
    if kind[-1] in "+*":
        return type(value) is list and (value != [] or kind[-1] == "*") and all(is_a(kind[:-1], one) for one in value)
    if kind in TEXTS:
        return type(value) is str and re.fullmatch(TEXTS[kind], value, re.ASCII) is not None
    return bool(KINDS[kind](value))


def is_number(value: Any) -> bool:
    return type(value) in {int, float} and -SAFE <= value <= SAFE


def is_label(value: Any) -> bool:
    return type(value) is str and 0 < len(value) <= 128 and {"Cc", "Cf", "Zl", "Zp"}.isdisjoint(map(category, value))


def is_pair(kind: str, value: Any) -> bool:
    return type(value) is list and len(value) == 2 and is_label(value[0]) and is_a(kind, value[1])


def is_pairs(pairs: Any) -> bool:
    if type(pairs) is not list or not all(is_pair("rule", pair) for pair in pairs):
        return False
    rules = dict(pairs)
    return len(rules) == len(pairs) and not may_be_absent(rules.get("*", ["anything"]))


def may_be_absent(rule: Any) -> bool:
    parts = rule[1:] if rule[0] == "not" else rule[1] if rule[0] in {"any", "all"} else []
    return rule == ["absent"] or any(map(may_be_absent, parts))


def is_regex(value: Any) -> bool:
    try:
        return is_a("text", value) and not re.search(r"\(\?[=!<]|\\[1-9]", value) and bool(re.compile(value))
    except re.error:
        return False


def leads_here(host: str) -> bool:
    labels = host.split(".")
    metadata = set(HOSTS["metadata"]) & set(labels if labels[-1] == "internal" else labels[-1:])
    return bool(metadata) or any(".".join(labels[at:]) in HOSTS["here"] for at in range(len(labels)))


def url_segments(path: Any) -> Any:
    """The decoded segments of a URL's path in its one spelling; None for any other value."""
    if type(path) is not str or len(path) > 4096 or not re.fullmatch(r"/[\w.~!$&'()*+,=:@%/-]*", path, re.ASCII):
        return None
    try:
        text = unquote_to_bytes(path).decode() if is_encoded(path, b"%/\\;?#\x7f" + bytes(range(32))) else "/."
    except UnicodeDecodeError:
        return None
    hidden = any(int(low, 16) <= ord(one) <= int(high, 16) for one in text for low, high in HOSTS["disguised"])
    segments = text.removesuffix("/").split("/")[1:]
    return None if hidden or {"", ".", ".."} & set(segments) else segments


def is_encoded(text: str, never: bytes = b"") -> bool:
    """Whether each `%` spells, in upper case, a byte that cannot stand for itself, and none of `never`."""
    codes = re.findall("%(.{0,2})", text, re.DOTALL)
    good = all(re.fullmatch("[0-9A-F]{2}", code) for code in codes)
    plain = bytes(int(code, 16) for code in codes) if good else b"a"
    return not any(byte in never or re.fullmatch(r"[\w.~-]", chr(byte), re.ASCII) for byte in plain)


def network(value: Any) -> Any:
    """The network in its one spelling, an address as one of a single address; None for any other value."""
    try:
        net: Any = ip_network(value if type(value) is str else "")
    except ValueError:
        return None
    inside = any(net[0] in each and net[-1] in each for each in map(ip_network, HOSTS["ipv4_in_ipv6"]))
    alone = str(net[0]) if net.num_addresses == 1 else ""
    return net if value in {str(net), alone} and "%" not in value and not (inside and int(net[0]) > 1) else None


KINDS: dict[str, Callable[[Any], Any]] = {
    "label": is_label,
    "natural": lambda value: type(value) is int and 0 <= value <= SAFE,
    "fact": lambda value: is_label(value[5:]) if str(value).startswith("args.") else is_a("name", value),
    "step": lambda value: is_pair("b8", value),
    "entry": lambda value: type(value) is list and is_a("pattern", (value or [0])[0]) and is_a("pairs*", value[1:]),
    "pairs": is_pairs,
    "members": lambda value: is_pairs(value) and value != [],
    "present": lambda value: is_a("rule", value) and not may_be_absent(value),
    "scalar": lambda value: value is None or type(value) is bool or is_number(value) or is_a("text", value),
    "literal": lambda value: is_a("scalar", value) or is_a("scalar+", value),
    "bound": lambda value: value is None or is_number(value),
    "size": lambda value: value is None or is_a("natural", value),
    "regex": is_regex,
    "port": lambda value: is_a("natural", value) and 0 < value < 65536,
    "url_path": lambda value: url_segments(value) is not None and (value == "/" or value[-1] != "/"),
    "network": lambda value: network(value) is not None and "/" in value,
}


# Judgement


def judge(value: Any, rule: Any) -> Any:
    tag, *fields = rule
    return None if value is MISSING and tag not in {"absent", "any", "all", "not"} else JUDGES[tag](value, *fields)


def closed(args: Facts, pairs: Any) -> list[tuple[str, Any]]:
    """The verdict on each value that a pair names, then on each other, with the reason if it is not yes."""
    rules = dict(pairs)
    others = rules.pop("*", None)
    rest = [value for name, value in args.items() if name not in rules]
    told = [("argument_refused", judge(args.get(name, MISSING), rule)) for name, rule in rules.items()]
    return told + [("argument_refused", judge(v, others)) if others else ("argument_not_named", False) for v in rest]


def first(verdict: bool, verdicts: Any) -> Any:
    """Kleene's or, for True; his and, for False."""
    said = list(verdicts)
    return verdict if verdict in said else None if None in said else not verdict


def within(lo: Any, value: Any, hi: Any) -> bool:
    return (lo is None or lo <= value) and (hi is None or value <= hi)


def is_small(value: Any) -> bool:
    """Whether an array or object holds no more than 1024 values, at all depths."""

    def count(value: Any) -> int:
        return sum(1 + count(each) for each in (value.values() if type(value) is dict else value)) if deep(value) else 0

    def deep(value: Any) -> bool:
        return type(value) in {list, dict}

    return count(value) <= 1024


def equal(value: Any, literal: Any) -> Any:
    if type(value) is list and type(literal) is list:
        said = [equal(one, other) for one, other in zip(value, literal, strict=False)]
        return None if None in said else False not in said and len(value) == len(literal)
    alike = is_number(literal) if is_number(value) else type(value) is type(literal) and type(value) is not dict
    return bool(value == literal) if alike else None


def contained(value: Any, literals: Any) -> Any:
    if type(value) is not list or not is_small(value) or len(value) * len(literals) > 65536:
        return None
    return first(False, (first(True, (equal(each, literal) for each in value)) for literal in literals))


def found(value: Any, literals: Any) -> Any:
    said = [equal(value, literal) for literal in literals]
    return True if True in said else False if False in said else None


def spelled(value: Any, pattern: str, flags: int = re.ASCII) -> Any:
    return re.fullmatch(pattern, value, flags) is not None if type(value) is str and len(value) <= 4096 else None


def globbed(value: Any, text: str) -> Any:
    parts = re.findall(r"\*\*|.", text, re.DOTALL)
    wild = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    return spelled(value, "".join(wild.get(part) or re.escape(part) for part in parts), re.DOTALL)


def each(value: Any, rule: Any, least: int = 1) -> Any:
    if type(value) is not list or not is_small(value):
        return None
    said = first(False, (judge(element, rule) for element in value))
    return len(value) >= least if said else said


def command(value: Any, programs: Any, lists: Any = ((),)) -> Any:
    if type(value) is not list or len(value) > 1024 or not all(type(word) is str for word in value):
        return None
    return value[:1] != [] and value[0] in programs and any(value[1 : len(words) + 1] == [*words] for words in lists)


def is_one(host: str, patterns: Any) -> bool:
    return any(host == each or (each[0] == "*" and host.endswith(each[1:])) for each in patterns)


def located(value: Any, schemes: Any, hosts: Any, ports: Any, path: str = "/") -> Any:
    match = re.fullmatch(URL, value, re.DOTALL) if type(value) is str and len(value) <= 4096 else None
    scheme, host, port, raw, query = match.groups() if match else [""] * 5
    own = HOSTS["own_ports"].get(scheme)
    at = int(port[1:]) if port else own
    if at is None or at > 65535 or (port and at == own) or (own is None and scheme not in schemes):
        return None
    if query and not (re.fullmatch(r"[?][\w.~!$&'()*+,=:@%/?;-]*", query, re.ASCII) and is_encoded(query)):
        return None
    if not is_a("host_name", host) or leads_here(host) or url_segments(raw) is None:
        return None
    below = url_segments(raw)[: len(url_segments(path))] == url_segments(path)
    return scheme in schemes and is_one(host, hosts) and at in (ports or [own]) and below


JUDGES: dict[str, Callable[..., Any]] = {
    "eq": equal,
    "in": found,
    "range": lambda value, lo, hi: within(lo, value, hi) if is_number(value) else None,
    "prefix": lambda value, text: value.startswith(text) if type(value) is str else None,
    "glob": globbed,
    "regex": spelled,
    "path": lambda value, top: f"{value}/".startswith(f"{top}/".replace("//", "/")) if is_a("path", value) else None,
    "url": located,
    "host": lambda value, patterns: is_one(value, patterns) if is_a("host_name", value) else None,
    "cidr": lambda value, networks: (
        any(network(value)[0] in network(each) for each in networks) if network(value) and "/" not in value else None
    ),
    "each": each,
    "contains": contained,
    "length": lambda value, lo, hi: within(lo, len(value), hi) if type(value) in {str, list} else None,
    "fields": lambda value, pairs: (
        first(False, (said for _, said in closed(value, pairs))) if type(value) is dict and is_small(value) else None
    ),
    "argv": command,
    "any": lambda value, parts: first(True, (judge(value, part) for part in parts)),
    "all": lambda value, parts: first(False, (judge(value, part) for part in parts)),
    "not": lambda value, part: {True: False, False: True}.get(judge(value, part)),
    "absent": lambda value: value is MISSING,
    "anything": lambda value: True,
}
