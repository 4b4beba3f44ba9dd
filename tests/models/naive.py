"""A second verifier, straight from docs/spec and its vocabulary.json: naive, slow, of the standard library alone."""

import hmac
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from contextlib import suppress
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import partial
from hashlib import sha256
from io import BytesIO
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from unicodedata import category
from urllib.parse import unquote, urlsplit

from tests.models import naive_ed25519, naive_secretbox

SPEC = json.loads(Path(__file__).parents[2].joinpath("docs/spec/vocabulary.json").read_text("utf-8"))
HOSTS, MARKS, LIMITS, TEXTS = SPEC["hosts"], SPEC["marks"], SPEC["numbers"], dict[str, str]()
for named, pattern in SPEC["texts"].items():
    TEXTS[named] = re.sub("<([a-z0-9_]+)>", lambda found: f"(?:{TEXTS[found[1]]})", pattern)
MASKED = re.compile("|".join(rf"[\U{low:0>8}-\U{high:0>8}]" for low, high in HOSTS["disguised"]))
TABLES = {"caveat": SPEC["caveats"], "constraint": SPEC["constraints"], "present": SPEC["constraints"]}
TYPES = {"null": type(None), "boolean": bool, "fraction": float, "array": list, "object": dict}
WILD = {r"\*\*": r"[\s\S]*", r"\*": "[^/]*", r"\?": "[^/]"}
FREE, MISSING, UNKNOWN = [["*", ["anything"]]], object(), ["not_understood"]
KINDS: dict[str, Any] = {
    **dict.fromkeys(["label", "named", "argument"], lambda s: {"Cc", "Cf", "Zl", "Zp"}.isdisjoint(map(category, s))),
    **dict.fromkeys(["url", "url_path"], lambda url: not MASKED.search(unquote(urlsplit(url).path, errors="strict"))),
    **dict.fromkeys(["address", "network"], lambda text: is_canonical(text, ip_network(text))),
    "regex": lambda text: not re.search(r"\(\?[=!<]|\\[1-9]", text) and re.compile(text),
    "pairs": lambda pairs: is_a("pair*", pairs) and len(dict(pairs)) == len(pairs),
    "few": lambda value: size(value) <= 1024,
}


def demand(good: Any, code: str = "malformed") -> None:
    if not good:
        raise PermissionError(code)


def codes(token: str, audience: str, keys: Any, received: Any, call: Any, **world: Any) -> list[str]:
    """What refuses, in order. `world`: now, deaths, age, seen (the ids burnt; None: cannot tell), require, bearer."""
    now, age, seen = world["now"], world["age"], world.get("seen", ())
    try:
        demand("," not in token or (len(token) <= 32768 and token.count(",") <= 8), "too_large")
        token, *sent = token.split(",")
        demand(all(text.startswith("capxd1_") for text in sent))
        kid, named, identifier, blocks, signature = decoded(token)
        demand(named == audience, "wrong_audience")
        demand(kid in keys and blocks, "not_authentic")
        tail, d = chained(keys[kid], identifier, blocks)
        ids = [each[:16] for each in d]
        demand(hmac.compare_digest(tail, signature), "not_authentic")
        found = discharged(keys[kid], identifier, blocks, signature, sent)
        claims, caveats, presented = shaped(blocks, world.get("require", ()))
        said = [approved(cid, discharge) for cid, discharge in found.values()]
        demand(sum(one["count"] for one in said) <= 16, "too_large")
        judged_too = [caveat for one in said for caveat in one["caveats"]]
        counted = judged_too + (caveats if named != "authority" else [])
        demand(sum(caveat[0] == "budget" for caveat in counted) <= 16, "too_large")
        key_ids, unsigned = signatures(blocks, d)
        unsigned += [fault for one in said for fault in misfits(one, claims, caveats, blocks, (named, now))]
        key_ids += [key for one in said for key in one["deaths"]]
        past = [
            one for one in world["deaths"] if str(one)[:7] == "issued:" and int(one[7:]) >= json.loads(identifier)[4]
        ]
        dead = deaths(claims, caveats, [*ids, *key_ids, f"kid:{kid}", *past[:1]], world["deaths"])
        if over := dead + ["expired" for one in caveats + judged_too if one[0] == "expires" and now >= one[1]]:
            return over[:32]
        demand(not presented or now <= presented[3] + 60, "call_window")
        demand(presented or world.get("bearer"), "bearer_refused")
        if presented:
            covered = {name: value for name, value in received.items() if name not in {"profile", "body"}}
            if "body" in received:
                covered["body_sha256"] = digest(urlsafe_b64decode(received["body"] + "==="))
            demand(presented[1:3] == [received["profile"], digest(rfc8785(covered).encode())], "call_mismatch")
            demand(presented[3] - 5 <= now <= presented[3] + 60, "call_window")
            demand(seen is not None, "unavailable")
            demand(ids[-1] not in seen, "replayed")
    except PermissionError as stop:
        return [str(stop)]
    told = unsigned + standing(claims, caveats, call, world)
    for cid in [one[1] for at, one in enumerate(blocks) if type(one) is tuple and at not in found]:
        known = approvers(cid) is not None
        told += ["needs_discharge" if known else "not_understood"] * (not known or not asks(named, call))
    judged = [one for one in caveats if named != "authority" or not re.search(r"\.|^(where|budget)$", one[0])]
    judged += judged_too
    return (told + [code for caveat in judged if (code := refusal(caveat, call, now, age))])[:32]


def asks(audience: str, call: Any) -> bool:
    return audience == "authority" and call["action"] in {"grant.request", "approval.request"}


def approvers(cid: bytes) -> Any:
    """COUNT, keys and LASTS of a demand; None if it is none."""
    with suppress(ValueError, UnicodeDecodeError):
        found = json.loads(cid.decode("ascii"))
        form = [int, list, int, str, list]
        if type(found) is not list or [*map(type, found)] != [int, *form] or found[0] != 1 or len(cid) > 4096:
            return None
        _, count, keys, lasts, nonce, boxes = found
        texts = [*((key, "b32") for key in keys), (nonce, "b16"), *((box, "b80") for box in boxes)]
        kinds = {**TEXTS, "b80": "[A-Za-z0-9_-]{106}[AEIMQUYcgkosw048]"}
        good = all(type(text) is str and re.fullmatch(kinds[kind], text) for text, kind in texts)
        good = good and 1 <= count <= len(keys) == len(boxes) == len({*keys}) <= 16 and 1 <= lasts <= 86400
        good = good and cid == json.dumps(found, separators=(",", ":")).encode()
        if good and all(naive_ed25519.is_key(unb64u(key)) for key in keys):
            return count, [*map(unb64u, keys)], lasts
    return None


def discharge(text: str) -> Any:
    """The cid, the blocks and the signature of a discharge."""
    try:
        demand(len(text) <= 16384 and re.fullmatch("capxd1_" + TEXTS["b64u"], text))
        stream = BytesIO(unb64u(text[7:]))
        demand(stream.read(11) == b"\x02\x01\x08approval")

        def field(kind: int, limit: int) -> bytes:
            demand(stream.read(1) == bytes([kind]))
            size = stream.read(1)[0]
            if size > 127:
                high = stream.read(1)[0]
                demand(0 < high < 128)
                size += (high - 1) * 128
            demand(size <= limit and len(found := stream.read(size)) == size)
            return found

        cid, blocks = field(2, 4096), list[bytes]()
        demand(stream.read(1) == b"\0")
        while (ahead := stream.read(1)) != b"\0":
            demand(ahead == b"\2" and len(blocks) < 32)
            stream.seek(-1, 1)
            blocks.append(field(2, 4096))
            demand(stream.read(1) == b"\0")
        signature = field(6, 32)
        demand(blocks and len(signature) == 32 and not stream.read())
    except (PermissionError, IndexError, ValueError):
        raise PermissionError("bad_discharge") from None
    return cid, blocks, signature


def discharged(key: bytes, identifier: bytes, blocks: list[Any], signature: bytes, sent: list[str]) -> dict[int, Any]:
    """By the number of the third-party caveat: the cid and the blocks of its discharge."""
    mac = partial(hmac.digest, digest="sha256")
    waiting, found = [discharge(text) for text in sent], dict[int, Any]()
    for at, one in enumerate(blocks):
        taken = next((each for each in waiting if type(one) is tuple and each[0] == one[1]), None)
        if taken is None:
            continue
        waiting.remove(taken)
        root = naive_secretbox.opened(one[0], chained(key, identifier, blocks[:at])[0]) if len(one[0]) == 72 else None
        demand(root is not None, "bad_discharge")
        tail = mac(root or b"", taken[0])
        for block in taken[1]:
            tail = mac(tail, block)
        bound = mac(bytes(32), mac(bytes(32), signature) + mac(bytes(32), tail))
        demand(hmac.compare_digest(bound, taken[2]), "bad_discharge")
        found[at] = taken[:2]
    demand(not waiting, "bad_discharge")
    return found


def approved(cid: bytes, blocks: list[bytes]) -> dict[str, Any]:
    """What a discharge says, with the messages that were signed; `bad_discharge` for another shape."""
    known = approvers(cid)
    demand(known, "bad_discharge")
    count, keys, lasts = known
    demand(len(blocks) > count, "bad_discharge")
    try:
        decoded = [read(block) for block in blocks]
    except PermissionError:
        raise PermissionError("bad_discharge") from None
    statement, signed, narrowed = decoded[0], decoded[1 : count + 1], decoded[count + 1 :]
    claims = [statement[0][0], *(one[0] for one in statement[1:2]), *(one[0] for one in statement[2:3])]
    own = 3 if claims == ["approved", "task", "intent"] else 2
    demand(claims[:2] == ["approved", "task"], "bad_discharge")
    rest = [caveat for caveats in [statement[own:], *narrowed] for caveat in caveats]
    tags = [caveat[0] for caveat in statement[own:]]
    demand(tags.count("expires") == 1 and "allow" in tags, "bad_discharge")
    demand(
        not any(caveat[0] in MARKS or (caveat[0] == "budget" and len(caveat) == 4) for caveat in rest), "bad_discharge"
    )
    demand(all(len(caveats) == 1 and caveats[0][0] == "signed" for caveats in signed), "bad_discharge")
    d = [hashed(b"capx/1/discharge", cid)]
    for block in blocks:
        d.append(hashed(b"capx/1/block", d[-1], block))
    numbers = [caveats[0][1] for caveats in signed]
    ids = [hashed(b"capx/1/key", keys[number])[:16] for number in numbers if number < len(keys)]
    return {
        "count": count,
        "keys": keys,
        "lasts": lasts,
        "stated": statement[0],
        "task": statement[1][1],
        "intent": statement[2][1] if own == 3 else None,
        "expires": next(caveat[1] for caveat in statement if caveat[0] == "expires"),
        "numbers": numbers,
        "signatures": [unb64u(caveats[0][2]) for caveats in signed],
        "message": hashed(b"capx/1/approval", d[1]),
        "caveats": rest,
        "deaths": [*(caveat[1] for caveat in rest if caveat[0] == "until_completed"), *(one[:16] for one in d), *ids],
    }


def misfits(said: Any, claims: Any, caveats: Any, blocks: list[Any], here: tuple[str, int]) -> list[str]:
    """`bad_discharge` for each way in which an approval does not fit a token, or is not signed."""
    (audience, now), (_, named, node, _, at), keys = here, said["stated"], said["keys"]
    own = {
        key
        for block in blocks
        for one in read(block)
        for key in (one[1:] if one[0] == "holder" else one[3:])
        if one[0] in {"holder", "hop"}
    }
    signers = [
        (keys[number], sig)
        for number, sig in zip(said["numbers"], said["signatures"], strict=True)
        if number < len(keys)
    ]
    faults = [
        named != audience,
        said["task"] != claims["task"][1],
        said["intent"] != (claims["intent"][1] if "intent" in claims else None),
        unb64u(node) not in path(claims, caveats),
        said["expires"] > at + said["lasts"],
        at > now + 5,
        len({*said["numbers"]}) < len(said["numbers"]) or max(said["numbers"]) >= len(keys),
        not {unb64u(key) for key in own}.isdisjoint(key for key, _ in signers),
        *(not naive_ed25519.is_signed(key, said["message"], signature) for key, signature in signers),
    ]
    return ["bad_discharge"] * sum(faults)


def decoded(token: str) -> tuple[str, str, bytes, list[Any], bytes]:
    """Kid, audience, the identifier they stand in, each block or third-party caveat (vid, cid), and the signature."""
    demand(token, "no_token")
    demand(len(token) <= 16384, "too_large")
    demand(token not in {"c", "ca", "cap", "capx", "capx1"}, "truncated")
    demand(token.startswith("capx1_") or not re.match("capx[0-9]+_", token), "unknown_version")
    demand(re.fullmatch("capx1_[A-Za-z0-9_-]*", token))
    stream = BytesIO(urlsafe_b64decode(token[6 : len(token) - (len(token) % 4 == 3)] + "==="))

    def byte(allowed: Any = range(256)) -> int:
        demand(found := stream.read(1), "truncated")
        demand(found[0] in allowed)
        return found[0]

    def content(limit: int) -> bytes:
        size = byte()
        size += (byte(range(1, 128)) - 1) * 128 if size > 127 else 0
        demand(size <= limit, "too_large")
        demand(len(found := stream.read(size)) == size, "truncated")
        return found

    demand(byte() == 2, "unknown_version")
    _, location, _, identifier, _ = byte([1]), content(63), byte([2]), content(256), byte([0])
    match: Any = re.fullmatch(TEXTS["identifier"].encode(), identifier)
    demand(match or not identifier.startswith(b"[") or identifier.startswith(b"[1,"), "unknown_version")
    demand(match and match[2] == location and is_a("natural", int(match[3])))
    blocks: list[Any] = []
    while kind := byte():
        demand(len(blocks) < 64, "too_large")
        demand(kind == 2)
        cid, third = content(4096), byte([0, 4])
        blocks.append((content(4096), cid) if third else cid)
        demand(not third or byte() == 0)
    _, signature = byte([6]), content(256)
    demand(len(signature) == 32 and not stream.read() and re.fullmatch(TEXTS["b64u"], token[6:]))
    return match[1].decode(), match[2].decode(), identifier, blocks, signature


def hashed(label: bytes, *parts: bytes) -> bytes:
    return sha256(b"".join(len(part).to_bytes(4, "big") + part for part in (label, *parts))).digest()


def chained(key: bytes, identifier: bytes, blocks: list[Any]) -> tuple[bytes, list[bytes]]:
    mac = partial(hmac.digest, digest="sha256")
    tail, d = mac(mac(b"macaroons-key-generator", key), identifier), [hashed(b"capx/1/token", identifier)]
    for block in blocks:
        third = type(block) is tuple
        tail = mac(tail, mac(tail, block[0]) + mac(tail, block[1]) if third else block)
        d.append(hashed(b"capx/1/third", d[-1], *block) if third else hashed(b"capx/1/block", d[-1], block))
    return tail, d


def digest(data: bytes) -> str:
    return urlsafe_b64encode(sha256(data).digest()).decode().rstrip("=")


def rfc8785(value: Any) -> str:
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return "{" + ",".join(f"{rfc8785(name)}:{rfc8785(value[name])}" for name in names) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(rfc8785, value)) + "]"
    if type(value) is float and not value.is_integer():
        return f"{Decimal(repr(value)):f}" if abs(value) >= 1e-6 else repr(value).replace("e-0", "e-")
    return json.dumps(int(value) if type(value) is float else value, ensure_ascii=False)


def shaped(blocks: list[Any], require: Any) -> tuple[Any, list[Any], Any]:
    """What the authority claims, all caveats but the presentation, and the presentation."""
    last = read(blocks[-1])
    presented = last[0] if [caveat[0] for caveat in last] in (["call"], ["call", "sig"]) else None
    chain = [read(block) for block in (blocks[:-1] if presented else blocks)]
    for at, caveats in enumerate(chain):
        marks = [caveat[0] if caveat[0] in MARKS else None for caveat in caveats]
        wrong = {"authority", "alone", "discharge"} if at else {"first", "last", "alone", "discharge"}
        demand(not any(MARKS.get(mark) in wrong or marks.count(mark) > 1 for mark in marks if mark), "misplaced")
        demand("hop" not in marks[1:] and "sig" not in marks[:-1], "misplaced")
        demand(not at or not any(caveat[0] == "budget" and len(caveat) == 4 for caveat in caveats), "misplaced")
    claims = {caveat[0]: caveat for caveats in chain[:1] for caveat in caveats}
    demand({"task", "root", "until_completed", "expires", "allow", *require} <= claims.keys(), "incomplete_authority")
    demand(["until_completed", claims["task"][1]] in chain[0], "incomplete_authority")
    demand(sum(caveat[0] == "budget" for caveats in chain for caveat in caveats) <= 16, "too_large")
    demand(sum(caveat[0] == "sig" for block in blocks for caveat in read(block)) <= 32, "too_large")
    return claims, [caveat for caveats in chain for caveat in caveats], presented


def read(block: Any) -> list[Any]:
    """The caveats of a block, UNKNOWN for what is not understood; none of a third-party caveat."""
    if type(block) is tuple:
        return []
    demand(block.count(b"[") <= 256, "too_large")
    with suppress(ValueError):
        found = json.loads(block.decode(), parse_constant=int)
        json.dumps(found, ensure_ascii=False).encode()  # a lone surrogate fails
        found = found if type(found) is list else []
        demand(len(found) <= 64, "too_large")
        own = dict(re.findall(rf'\["({TEXTS["own_tag"]})"', block.decode()))  # good enough for what the tests write
        known = [is_a("caveat", each) or (type(each) is list and str(*each[:1]) in own) for each in found]
        return [each if good else UNKNOWN for each, good in zip(found, known, strict=True)] or [UNKNOWN]
    return [UNKNOWN]


def signatures(blocks: list[Any], d: list[bytes]) -> tuple[list[bytes], list[str]]:
    """The ids of the keys that the chain names, and the reasons of 6.1."""
    keys, told = list[bytes](), list[str]()
    for at, (block, caveats) in enumerate(zip(blocks, map(read, blocks), strict=True)):
        marks = {caveat[0]: caveat[1:] for caveat in caveats}
        hop, key = marks.get("hop"), [*marks.get("holder", []), *marks.get("hop", [])[2:]]
        must = "call" in marks if keys else False
        if at and not keys:
            told += ["hop_unsigned"] * bool(key or "sig" in marks)
            continue
        told += ["hop_unsigned"] * ((hop is not None and not (key and "sig" in marks)) or (must and "sig" not in marks))
        if "sig" in marks:
            signed = hashed(b"capx/1/sig", d[at], block[:-98])
            good = block.endswith(b',["sig","%b"]]' % marks["sig"][0].encode())
            good = good and naive_ed25519.is_signed(keys[-1], signed, unb64u(marks["sig"][0]))
            told += ["hop_signature"] * (not good)
        if key:
            keys.append(unb64u(key[0]))
            told += ["hop_signature"] * (not naive_ed25519.is_key(keys[-1]))
    bare = bool(keys) and (not blocks or "call" not in [caveat[0] for caveat in read(blocks[-1])])
    return [hashed(b"capx/1/key", key)[:16] for key in keys], told + ["hop_unsigned"] * bare


def unb64u(text: str) -> bytes:
    return urlsafe_b64decode(text + "===")


def path(claims: Any, caveats: Any) -> list[bytes]:
    nodes = [hashed(b"capx/1/root", claims["root"][1].encode())[:16]]
    granted = [step[1] for steps in claims["root"][2:] for step in steps]
    for nonce in granted + [caveat[2] for caveat in caveats if caveat[0] == "hop"]:
        nodes.append(hashed(b"capx/1/node", nodes[-1], nonce.encode())[:16])
    return nodes


def deaths(claims: Any, caveats: Any, ids: list[Any], known: Any) -> list[str]:
    nodes = path(claims, caveats)
    tasks = [claims["task"][1]] + [caveat[1] for caveat in caveats if caveat[0] == "until_completed"]
    return [known[key] for key in dict.fromkeys([*tasks, *nodes, *ids]) if key in known]


def standing(claims: Any, caveats: Any, call: Any, world: Any) -> list[str]:
    told = ["unknown_liveness"] if world["age"] == float("inf") else ["stale_liveness"] if world["age"] > 30 else []
    told += ["incomplete_authority"] if call["tenant"] is not None and "tenant" not in claims else []
    for at, (tag, *fields) in enumerate(caveats):  # a hop is the first of its block
        hops = [later[0] for later in caveats[at:]].count("hop")
        told += ["too_many_hops"] if tag == "max_hops" and hops > fields[0] else []
    return told


def refusal(caveat: Any, call: Any, now: int, age: float) -> str | None:
    defaults = call.get("defaults", {})
    everything = {**defaults, **call["args"]}
    match caveat:
        case [tag, int(n)] if {"expires": now >= n, "not_before": now < n, "fresh": age > n}.get(tag):
            return {"expires": "expired", "not_before": "not_yet", "fresh": "stale_liveness"}[tag]
        case ["tenant", name] if call["tenant"] != name:
            return "attribute_missing" if call["tenant"] is None else "wrong_tenant"
        case ["where", fact, rule]:
            facts, name = (everything, fact[5:]) if fact.startswith("args.") else (call["attributes"], fact)
            good = judge(rule, facts.get(name, MISSING)) is True
            return None if good else "argument_refused" if name in facts else "attribute_missing"
        case ["allow", entries]:
            closures = [[*pairs, FREE][0] for pattern, *pairs in entries if fnmatchcase(call["action"], pattern)]
            seen = [{d: v for d, v in defaults.items() if {d, "*"} & {*dict(pairs)}} for pairs in closures]
            faults = [first_fault(pairs, {**more, **call["args"]}) for pairs, more in zip(closures, seen, strict=True)]
            return None if None in faults else max([(-1, "action_not_allowed"), *faults], key=lambda one: one[0])[1]
        case _:
            return {"budget": "no_meter", UNKNOWN[0]: UNKNOWN[0]}.get(UNKNOWN[0] if "." in caveat[0] else caveat[0])


def first_fault(pairs: Any, values: Any) -> Any:
    """How many named pairs say yes before the first value that is not as they have it, and its reason, if there is."""
    faults = [(at, code) for at, (code, said) in enumerate(closed(pairs, values)) if said is not True]
    return next(((min(at, len({*dict(pairs)} - {"*"})), code) for at, code in faults), None)


def closed(pairs: Any, values: Any) -> list[tuple[str, Any]]:
    """The verdict on each value that a pair names, then on each other, with the reason if it is not yes."""
    rules = dict(pairs)
    others = rules.pop("*", None)
    rest = [value for name, value in values.items() if name not in rules]
    told = [("argument_refused", judge(rule, values.get(name, MISSING))) for name, rule in rules.items()]
    return told + [("argument_refused", judge(others, v)) if others else ("argument_not_named", False) for v in rest]


def is_a(kind: str, value: Any) -> bool:
    """Whether a value is of a kind, in the words of vocabulary.json."""
    kind = SPEC["kinds"].get(kind, kind)
    if " | " in kind:
        return any(map(partial(is_a, value=value), kind.split(" | ")))
    if kind[0] == "[":
        return type(value) is list and len(value) == len(kinds := kind[1:-1].split()) and all(map(is_a, kinds, value))
    if kind[-1] in "+*":
        return type(value) is list and (value != [] or kind[-1] == "*") and all(map(partial(is_a, kind[:-1]), value))
    if kind in TABLES:
        tag = str(value[0]) if type(value) is list and value else ""
        good = tag in TABLES[kind] and (kind, tag) != ("present", "absent")
        good = good and is_a(TABLES[kind][tag].replace("rule", kind), value[1:])
        return good and (tag not in {"range", "length"} or None in value or value[1] <= value[2])
    if kind in LIMITS or kind in TYPES:
        good = type(value) is TYPES.get(kind, int)
        return good and (kind not in LIMITS or LIMITS[kind][0] <= value <= LIMITS[kind][1])
    with suppress(ValueError, re.error):
        good = kind not in TEXTS or (type(value) is str and re.fullmatch(TEXTS[kind], value) is not None)
        return good and (kind not in KINDS or bool(KINDS[kind](value)))
    return False


def is_canonical(text: str, net: Any) -> bool:
    hidden = any(net[0] in each and net[-1] in each for each in map(ip_network, HOSTS["ipv4_in_ipv6"]))
    return text in {str(net), str(net[0])} and (not hidden or int(net[0]) <= 1)


def size(value: Any) -> int:
    held = value if type(value) is list else [*value.values()] if type(value) is dict else []
    return len(held) + sum(map(size, held))


def first(said: Any, *order: Any) -> Any:
    """The first of these verdicts that was said, else the last."""
    return next((verdict for verdict in order if verdict in said), order[-1])


def equal(value: Any, literal: Any) -> Any:
    if type(value) is type(literal) is list:
        return first([*map(equal, value, literal), len(value) == len(literal)], None, False, True)
    alike = any(is_a(kind, value) and is_a(kind, literal) for kind in ("null", "boolean", "number", "any_text"))
    return value == literal if alike else None


def judge(rule: Any, value: Any) -> Any:
    """True, False, or None: cannot judge. `re` stands for RE2: good enough for the patterns that the tests write."""

    def located(schemes: Any, hosts: Any, ports: Any, top: str = "/") -> Any:
        url, own = urlsplit(value), HOSTS["own_ports"].get(urlsplit(value).scheme)
        if url.port == own or (own is None and url.scheme not in schemes):
            return None
        good = url.scheme in schemes and (url.port or own) in (ports or [own]) and judge(["host", hosts], url.hostname)
        return good and f"{unquote(url.path)}/".startswith(unquote(top).rstrip("/") + "/")

    def contains(literals: Any) -> Any:
        said = [first([equal(one, literal) for one in value], True, None, False) for literal in literals]
        return first(said, False, None, True) if len(value) * len(literals) <= 65536 else None

    judges: dict[str, Any] = {
        "eq": lambda literal: equal(value, literal),
        "in": lambda literals: first([equal(value, each) for each in literals], True, False, None),
        "range": lambda lo, hi: (lo is None or lo <= value) and (hi is None or value <= hi),
        "prefix": lambda text: value[: len(text)] == text,
        "glob": lambda text: judge(["regex", re.sub(r"(\\\*)+|\\\?", lambda m: WILD[m[0]], re.escape(text))], value),
        "regex": lambda text: re.fullmatch(text, value, re.ASCII) is not None,
        "path": lambda top: f"{value}/".startswith(top.rstrip("/") + "/"),
        "url": located,
        "host": lambda patterns: any(fnmatchcase(value, each) for each in patterns),
        "cidr": lambda networks: any(ip_address(value) in ip_network(each) for each in networks),
        "each": lambda part, n=1: first([judge(part, one) for one in value], False, None, True) and len(value) >= n,
        "contains": contains,
        "length": lambda lo, hi: judge(["range", lo, hi], len(value)),
        "fields": lambda pairs: first([said for _, said in closed(pairs, value)], False, None, True),
        "argv": lambda programs, lists=((),): any(value[: len(a) + 1] == [p, *a] for p in programs for a in lists),
        "any": lambda parts: first([judge(part, value) for part in parts], True, None, False),
        "all": lambda parts: first([judge(part, value) for part in parts], False, None, True),
        "not": lambda part: {True: False, False: True}.get(judge(part, value)),
        "absent": lambda: value is MISSING,
        "anything": lambda: True,
    }
    able = value is not MISSING and all(is_a(kind, value) for kind in SPEC["judged"].get(rule[0], "").split())
    return judges[rule[0]](*rule[1:]) if able or rule[0] in {"any", "all", "not", "absent"} else None
