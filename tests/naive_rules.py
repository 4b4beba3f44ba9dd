"""The constraints of the second verifier, from docs/spec/vocabulary.md and its tables in vocabulary.json.

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
HOSTS = SPEC["hosts"]
SAFE, MISSING = 2**53 - 1, object()


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
    """Whether a value is of this kind: a pattern's, a plural's, or one of its own."""
    if kind in SPEC["texts"]:
        return type(value) is str and re.fullmatch(SPEC["texts"][kind], value, re.ASCII) is not None
    if kind == "rule":
        return fits(value, "constraints")
    if kind in PLURALS:
        return type(value) is list and value != [] and all(is_a(PLURALS[kind], one) for one in value)
    return bool(KINDS[kind](value))


def is_number(value: Any) -> bool:
    return type(value) in {int, float} and -SAFE <= value <= SAFE


def is_natural(value: Any) -> bool:
    return type(value) is int and 0 <= value <= SAFE


def is_label(value: Any) -> bool:
    return (
        type(value) is str and 0 < len(value) <= 128 and not {"Cc", "Cf", "Cs", "Zl", "Zp"} & set(map(category, value))
    )


def is_text(value: Any) -> bool:
    return type(value) is str and value != ""


def is_scalar(value: Any) -> bool:
    return value is None or type(value) is bool or is_number(value) or is_text(value)


def may_be_absent(rule: Any) -> bool:
    parts = rule[1:] if rule[0] == "not" else rule[1] if rule[0] in {"any", "all"} else []
    return rule == ["absent"] or any(map(may_be_absent, parts))


def is_pairs(pairs: Any) -> bool:
    if type(pairs) is not list or not all(type(pair) is list and len(pair) == 2 for pair in pairs):
        return False
    good = all(
        is_label(name) and fits(rule, "constraints") and not (name == "*" and may_be_absent(rule))
        for name, rule in pairs
    )
    return good and len({name for name, _ in pairs}) == len(pairs)


def is_entry(entry: Any) -> bool:
    good = type(entry) is list and len(entry) in {1, 2} and is_a("pattern", entry[0])
    return good and all(map(is_pairs, entry[1:]))


def is_fact(value: Any) -> bool:
    return is_label(value[5:]) if type(value) is str and value.startswith("args.") else is_a("name", value)


def is_regex(value: Any) -> bool:
    try:
        return is_text(value) and not re.search(r"\(\?[=!<]|\\[1-9]", value) and bool(re.compile(value))
    except re.error:
        return False


def is_host(value: Any) -> bool:
    label = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
    good = type(value) is str and len(value) <= 253 and re.fullmatch(rf"({label}\.)*{label}", value)
    return bool(good) and not re.fullmatch("[0-9]+|0x[0-9a-f]*", value.split(".")[-1])


def leads_here(host: str) -> bool:
    labels = host.split(".")
    metadata = set(HOSTS["metadata"]) & set(labels if labels[-1] == "internal" else labels[-1:])
    return bool(metadata) or any(".".join(labels[at:]) in HOSTS["here"] for at in range(len(labels)))


def is_pattern(value: Any) -> bool:
    return type(value) is str and is_host(value.removeprefix("*."))


def url_segments(path: Any) -> Any:
    """The decoded segments of a URL's path in its one spelling; None for any other value."""
    if type(path) is not str or len(path) > 4096 or not re.fullmatch(r"/[\w.~!$&'()*+,=:@%/-]*", path, re.ASCII):
        return None
    if not is_encoded(path, b"%/\\;?#\x7f" + bytes(range(32))):
        return None
    try:
        text = unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        return None
    hidden = any(int(low, 16) <= ord(one) <= int(high, 16) for one in text for low, high in HOSTS["disguised"])
    segments = text.removesuffix("/").split("/")[1:]
    return None if hidden or {"", ".", ".."} & set(segments) else segments


def is_encoded(text: str, never: bytes = b"") -> bool:
    """Whether each `%` spells, in upper case, a byte that cannot stand for itself, and none of `never`."""
    codes = re.findall("%(.{0,2})", text, re.DOTALL)
    good = all(re.fullmatch("[0-9A-F]{2}", code) for code in codes)
    return good and not any(
        re.fullmatch(r"[\w.~-]", chr(int(code, 16)), re.ASCII) or int(code, 16) in never for code in codes
    )


def spells_ipv4(first: Any, last: Any) -> bool:
    embedding = map(ip_network, HOSTS["ipv4_in_ipv6"])
    return first.version == 6 and int(first) > 1 and any(first in each and last in each for each in embedding)


def network(value: Any) -> Any:
    """The network in its one spelling, an address as one of a single address; None for any other value."""
    try:
        net: Any = ip_network(value if type(value) is str else "")
    except ValueError:
        return None
    good = value in {str(net), str(net[0]) if net.num_addresses == 1 else ""} and "%" not in value
    return net if good and not spells_ipv4(net[0], net[-1]) else None


def segments(path: Any) -> Any:
    if type(path) is not str or len(path) > 4096 or not path.startswith("/") or set(path) & set("%\\\0"):
        return None
    parts = path[1:].split("/")
    return [] if path == "/" else None if {"", ".", ".."} & set(parts) else parts


PLURALS = {
    "steps": "step",
    "entries": "entry",
    "literals": "literal",
    "rules": "rule",
    "texts": "text",
    "lists": "texts",
    "schemes": "scheme",
    "hosts": "host",
    "networks": "network",
}
KINDS: dict[str, Callable[[Any], Any]] = {
    "label": is_label,
    "natural": is_natural,
    "text": is_text,
    "fact": is_fact,
    "step": lambda value: type(value) is list and len(value) == 2 and is_label(value[0]) and is_a("b8", value[1]),
    "entry": is_entry,
    "pairs": is_pairs,
    "members": lambda value: is_pairs(value) and value != [],
    "present": lambda value: fits(value, "constraints") and not may_be_absent(value),
    "literal": lambda value: is_scalar(value) or (type(value) is list and value != [] and all(map(is_scalar, value))),
    "bound": lambda value: value is None or is_number(value),
    "size": lambda value: value is None or is_natural(value),
    "glob": lambda value: is_text(value) and "***" not in value,
    "regex": is_regex,
    "path": lambda value: segments(value) is not None,
    "scheme": lambda value: is_a("scheme_name", value) and value not in HOSTS["hostless_schemes"],
    "host": is_pattern,
    "ports": lambda value: type(value) is list and all(is_natural(port) and 0 < port < 65536 for port in value),
    "url_path": lambda value: url_segments(value) is not None and (value == "/" or value[-1] != "/"),
    "network": lambda value: network(value) is not None and "/" in value,
}


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


def both(verdicts: Any) -> Any:
    """Kleene's and."""
    said = list(verdicts)
    return False if False in said else None if None in said else True


def either(verdicts: Any) -> Any:
    """Kleene's or."""
    said = list(verdicts)
    return True if True in said else None if None in said else False


def within(lo: Any, value: Any, hi: Any) -> bool:
    return (lo is None or lo <= value) and (hi is None or value <= hi)


def count(value: Any) -> int:
    parts = value if type(value) is list else value.values() if type(value) is dict else []
    return sum(1 + count(part) for part in parts)


def equal(value: Any, literal: Any) -> Any:
    if type(value) is list and type(literal) is list:
        said = [equal(one, other) for one, other in zip(value, literal, strict=False)]
        return None if None in said else False not in said and len(value) == len(literal)
    alike = is_number(literal) if is_number(value) else type(value) is type(literal) and type(value) is not dict
    return bool(value == literal) if alike else None


def contained(value: Any, literals: Any) -> Any:
    if type(value) is not list or count(value) > 1024 or len(value) * len(literals) > 65536:
        return None
    return both(either(equal(element, literal) for element in value) for literal in literals)


def found(value: Any, literals: Any) -> Any:
    said = [equal(value, literal) for literal in literals]
    return True if True in said else False if False in said else None


def spelled(value: Any, pattern: str, flags: int = 0) -> Any:
    return re.fullmatch(pattern, value, flags) is not None if type(value) is str and len(value) <= 4096 else None


def globbed(value: Any, text: str) -> Any:
    wild = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    return spelled(
        value, "".join(wild.get(part) or re.escape(part) for part in re.findall(r"\*\*|.", text, re.DOTALL)), re.DOTALL
    )


def below(parts: Any, root: Any) -> Any:
    return None if parts is None else parts[: len(root)] == root


def each(value: Any, rule: Any, least: int = 1) -> Any:
    if type(value) is not list or count(value) > 1024:
        return None
    said = both(judge(element, rule) for element in value)
    return len(value) >= least if said else said


def command(value: Any, programs: Any, lists: Any = ((),)) -> Any:
    if type(value) is not list or len(value) > 1024 or not all(type(word) is str for word in value):
        return None
    return value[:1] != [] and value[0] in programs and any(value[1 : len(words) + 1] == list(words) for words in lists)


def is_one(host: str, patterns: Any) -> bool:
    return any(host == each or (each[0] == "*" and host.endswith(each[1:])) for each in patterns)


URL = "([a-z][a-z0-9+.-]{1,31})://([^/?#]*?)(:[1-9][0-9]{0,4})?(/[^?]*)([?].+)?"


def located(value: Any, schemes: Any, hosts: Any, ports: Any, path: str = "/") -> Any:
    match = re.fullmatch(URL, value, re.DOTALL) if type(value) is str and len(value) <= 4096 else None
    if not match:
        return None
    scheme, host, port, raw, query = match.groups()
    own = HOSTS["own_ports"].get(scheme)
    at = int(port[1:]) if port else own
    if at is None or at > 65535 or (port and at == own) or (own is None and scheme not in schemes):
        return None
    if query and not (re.fullmatch(r"[?][\w.~!$&'()*+,=:@%/?;-]*", query, re.ASCII) and is_encoded(query)):
        return None
    if not is_host(host) or leads_here(host) or url_segments(raw) is None:
        return None
    good = scheme in schemes and is_one(host, hosts) and at in (ports or [own])
    return good and below(url_segments(raw), url_segments(path))


JUDGES: dict[str, Callable[..., Any]] = {
    "eq": equal,
    "in": found,
    "range": lambda value, lo, hi: within(lo, value, hi) if is_number(value) else None,
    "prefix": lambda value, text: value.startswith(text) if type(value) is str else None,
    "glob": globbed,
    "regex": lambda value, pattern: spelled(value, pattern, re.ASCII),
    "path": lambda value, root: below(segments(value), segments(root)),
    "url": located,
    "host": lambda value, patterns: is_one(value, patterns) if is_host(value) else None,
    "cidr": lambda value, networks: (
        any(network(value)[0] in network(each) for each in networks) if network(value) and "/" not in value else None
    ),
    "each": each,
    "contains": contained,
    "length": lambda value, lo, hi: within(lo, len(value), hi) if type(value) in {str, list} else None,
    "fields": lambda value, pairs: (
        both(said for _, said in closed(value, pairs)) if type(value) is dict and count(value) <= 1024 else None
    ),
    "argv": command,
    "any": lambda value, parts: either(judge(value, part) for part in parts),
    "all": lambda value, parts: both(judge(value, part) for part in parts),
    "not": lambda value, part: {True: False, False: True}.get(judge(value, part)),
    "absent": lambda value: value is MISSING,
    "anything": lambda value: True,
}
