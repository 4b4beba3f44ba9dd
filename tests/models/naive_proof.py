"""A second reader of execution proofs, straight from docs/spec: naive, slow, of the standard library alone.

Its answer is one word. It says not why: the first reader does that.
"""

import json
import re
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections import Counter, defaultdict
from contextlib import suppress
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import cache
from hashlib import sha256
from itertools import combinations, pairwise
from typing import Any
from urllib.parse import unquote

from tests.models import naive, naive_ed25519
from tests.models.naive import digest, hashed, rfc8785, unb64u
from tests.models.naive_ed25519 import is_key

# It takes long, and the same few signatures come again and again.
naive_ed25519.is_signed = cache(naive_ed25519.is_signed)
STALE, CLOCKS, EARLY, LATE = 30, 30, 5, 60
HASH, SIG, MOST = "[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]", "[A-Za-z0-9_-]{85}[AQgw]", 2**53 - 1
DIGITS = re.compile(HASH)
FORM: dict[str, Any] = {
    "capx_proof": int,
    "task": str,
    "sources": [{"of": str, "at": int, "note": str, "events": [], "sig": SIG}],
    "intent?": {"document": dict, "signature?": (SIG, None), "attested?": (str, None)},
    "requests?": [{"shown": dict, "approver": str, "yes": bool, "at": int, "signature": SIG}],
    "approvals?": [dict],
    "asked?": [{"position": int, "salt": HASH, "args": dict}],
    "disclosed?": [{"decision": str, "salt": HASH, "args": dict}],
}
EVENT = {"position": int, "at": int, "kind": str, "body": str, "before": HASH, "path": [HASH]}
TEXTS, USES = [str], "[A-Za-z0-9_-]{21}u"
BLOCKS = [(str, [str])]
CHAIN = {"identifier": str, "blocks": BLOCKS}
MAYBE = (str, None)
ASK = {
    "after": str,
    "args": str,
    "names?": (TEXTS, None),
    "blocks?": BLOCKS,
    "presented?": (str, [str], None),
    "offer?": MAYBE,
}
BY = {"principal": str, "key": str}
ANSWER = {"request": str, "task": str, "approver": str, "signature": str, "...": 0}
SIGNED = {"request": str, "task": str, "approver": str, "approval": str, "digest": str, "...": 0}
OF_TASK = {"task": str, "by?": (BY, None), "...": 0}
WHERE = {"task": str, "path": TEXTS, "hops": TEXTS, "audience": str, "action": str, "...": 0}
APPROVAL = {"digest": str, "cid?": MAYBE, "blocks?": BLOCKS}
BODIES: dict[str, Any] = {
    "task_opened": {
        "task": str,
        "root": str,
        "expires": int,
        "...": 0,
        **dict.fromkeys(["node?", "tenant?", "purpose?", "principal?", "intent?", "agent?", "policy?"], MAYBE),
        "holder?": MAYBE,
        "attested?": MAYBE,
        "by?": BY,
    },
    "capability_minted": {
        "task": str,
        "audience": str,
        "kid": str,
        "ids": TEXTS,
        "allow": TEXTS,
        "expires": int,
        "...": 0,
        "budgets?": [{"counter": str, "unit": str, "limit": str, "...": 0}],
        "request?": MAYBE,
        "policy?": MAYBE,
        "round?": (int, None),
        "path?": TEXTS,
        "hops?": TEXTS,
        "asker?": TEXTS,
        "digest?": MAYBE,
        "chain?": (CHAIN, None),
        "ask?": (ASK, None),
        "consent?": bool,
    },
    "request_made": {
        **WHERE,
        "request": str,
        "until": int,
        "approvers": TEXTS,
        "round": int,
        "pinned?": bool,
        "policy?": MAYBE,
        "call?": bool,
        "ask?": (ASK, None),
    },
    **dict.fromkeys(["request_approved", "request_denied"], ANSWER),
    **dict.fromkeys(["task_completed", "task_withdrawn", "task_expired"], OF_TASK),
    **dict.fromkeys(["approval_signed", "approval_made"], SIGNED),
    "request_expired": {"request": str, "task": str, "...": 0},
    "ask_refused": {**WHERE, "reasons": TEXTS},
    "revoked": {
        **dict.fromkeys(["id?", "kid?", "task?", "by?", "key?"], MAYBE),
        "is_root?": bool,
        "issued?": (int, None),
        "again?": bool,
        "others?": TEXTS,
        "person?": (BY, None),
        "...": 0,
    },
    "restored": {"issued": int, "epoch": str, "backup": int, "...": 0},
    "given_back": {
        "task": MAYBE,
        "audience": str,
        "decision": str,
        "presentation": str,
        "reason": str,
        "...": 0,
        "given": [{"counter": str, "unit": str, "cost": str, "...": 0}],
    },
    "decision": {
        "id": str,
        "at": int,
        "outcome": str,
        "audience": str,
        "...": 0,
        **dict.fromkeys(["action?", "task?", "tenant?", "intent?", "root?", "key?", "presentation?", "args?"], MAYBE),
        **dict.fromkeys(["hops?", "nonces?", "ids?"], TEXTS),
        "digest?": MAYBE,
        "chain?": (CHAIN, None),
        "presented?": (str, [str], None),
        "shown_args?": (dict, None),
        "approvals?": [APPROVAL],
        "stated?": bool,
        "reasons?": [dict],
    },
}


class Broken(Exception):
    """The proof was altered, or is none."""


def demand(good: Any) -> None:
    if not good:
        raise Broken


def result(data: bytes, trust: str) -> str:
    """`broken`, `contradicted`, `incomplete` or `consistent`."""
    try:
        told, gaps = findings(data, trust)
    except (Broken, RecursionError, UnicodeError, ValueError):
        return "broken"
    return "contradicted" if told else "incomplete" if gaps else "consistent"


def of_form(value: Any, form: Any) -> bool:
    """Whether a value has a form; `?` marks what may be left out, `...` that more may be there."""
    if isinstance(form, tuple):
        return any(of_form(value, one) for one in form)
    if isinstance(form, list):
        return type(value) is list and all(of_form(one, form[0]) for one in value if form)
    if isinstance(form, dict):
        if type(value) is not dict:
            return False
        known = {name.rstrip("?"): (one, name.endswith("?")) for name, one in form.items()}
        more = "..." in form or value.keys() <= known.keys()
        return more and all(
            of_form(value[name], one) if name in value else maybe
            for name, (one, maybe) in known.items()
            if name != "..."
        )
    if isinstance(form, str):
        return type(value) is str and re.fullmatch(form, value) is not None
    return value is None if form is None else type(value) is form


def strict(text: str) -> Any:
    """JSON in which no name stands twice."""

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        demand(len(dict(pairs)) == len(pairs))
        return dict(pairs)

    return json.loads(text, object_pairs_hook=distinct, parse_constant=demand)


def canonical(value: Any) -> bytes:
    def check(one: Any) -> None:
        if type(one) in {int, float}:
            demand(abs(one) <= MOST)
        for each in one.values() if type(one) is dict else one if type(one) is list else ():
            check(each)

    check(value)
    return rfc8785(value).encode()


def base64(text: str) -> bytes:
    found = b64decode(text, validate=True)
    demand(b64encode(found).decode() == text)
    return found


def trusted(text: str) -> Any:
    """The authorities, the keys of logs and witnesses by name and id, the quorum and the people of a trust file."""
    found: dict[str, list[list[str]]] = defaultdict(list)
    for line in text.split("\n"):
        if line.strip() and not line.startswith("#"):
            what, *fields = line.split()
            found[what].append(fields)
    keys = {}
    for kind, number in (("log", 1), ("witness", 4)):
        for ((vkey),) in found[kind]:
            name, id_, encoded = vkey.split("+", 2)
            keys[name, bytes.fromhex(id_)] = (kind, base64(encoded)[1:])
            demand(base64(encoded)[0] == number)
    people = [(unquote(name), unb64u(key.removeprefix("ed25519:"))) for name, key in found["principal"]]
    quorum = int(found["quorum"][0][0]) if found["quorum"] else 0
    return {one for (one,) in found["authority"]}, keys, quorum, people


def note(text: str, keys: Any, authorities: Any) -> Any:
    """Origin, size and root of a note, the keys of its log that have signed, and the times of witnesses."""
    demand(len(text) <= 2**16 and not any(each < " " and each != "\n" for each in text))
    body, blank, below = text.rpartition("\n\n")
    demand(blank and body and below.endswith("\n"))
    signed, lines = f"{body}\n", below[:-1].split("\n")
    demand(len(lines) <= 32)
    origin, size, root = body.split("\n")
    demand(re.fullmatch("0|[1-9][0-9]{0,15}", size) and int(size) <= MOST and len(base64(root)) == 32)
    signers, times = set[bytes](), list[int]()
    for line in lines:
        demand(re.fullmatch("— [^ +\x00-\x20]{1,255} [^ ]+", line))
        name, encoded = line[2:].split(" ")
        data = base64(encoded)
        demand(len(data) > 4)
        kind, public = keys.get((name, data[:4]), (None, b""))
        if kind == "witness":
            at = int.from_bytes(data[4:12], "big")
            demand(
                len(data) == 76
                and naive_ed25519.is_signed(public, f"cosignature/v1\ntime {at}\n{signed}".encode(), data[12:])
            )
            times.append(at)
        elif kind == "log" and (name == origin or (origin not in authorities and origin.startswith(f"{name}/"))):
            demand(naive_ed25519.is_signed(public, signed.encode(), data[4:]))
            signers.add(public)
    demand(signers)
    return origin, int(size), base64(root), signers, times, signed


def rooted(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes | None:
    """The root to which a path leads (RFC 9162, 2.1.3.2)."""
    if index >= size:
        return None
    found, last = sha256(b"\0" + leaf).digest(), size - 1
    for one in path:
        if last == 0:
            return None
        if index & 1 or index == last:
            found = sha256(b"\1" + one + found).digest()
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            found = sha256(b"\1" + found + one).digest()
        index, last = index >> 1, last >> 1
    return found if last == 0 else None


def block_of(text: Any) -> Any:
    """A block from its text: bytes, or vid and cid."""
    if type(text) is str:
        return text.encode()
    raw = [unb64u(one) for one in text]
    demand(all(digest_text(one) == given for one, given in zip(raw, text, strict=True)))
    if len(raw) == 1:
        with suppress(UnicodeDecodeError):
            raw[0].decode()
            raise Broken
        return raw[0]
    demand(len(raw) == 2)
    return (raw[0], raw[1])


def digest_text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


class Chain:
    """What the public bytes of a chain say; ValueError if they are none."""

    def __init__(self, identifier: str, blocks: list[Any]) -> None:
        self.identifier, self.blocks = identifier, blocks
        form = r'\[1,"([A-Za-z0-9_-]{10}[AEIMQUYcgkosw048])","([a-z0-9._-]{1,63})","([A-Za-z0-9_-]{21}[AQgw])",(\d+)\]'
        match = re.fullmatch(form, identifier)
        if match is None or not blocks:
            raise ValueError("identifier")
        self.kid, self.audience, self.issued = match[1], match[2], int(match[4])
        self.d = [hashed(b"capx/1/token", identifier.encode())]
        for one in blocks:
            third = type(one) is tuple
            self.d.append(
                hashed(b"capx/1/third", self.d[-1], *one) if third else hashed(b"capx/1/block", self.d[-1], one)
            )
        try:
            # As if it were presented: the shape of all blocks is looked at.
            self.claims, self.caveats, _ = naive.shaped([*blocks, b'[["call"]]'], ())
            self.key_ids, self.unsigned = naive.signatures(blocks, self.d)
        except (PermissionError, KeyError, IndexError, TypeError):
            raise ValueError("shape") from None
        self.keys = [unb64u(one[1] if one[0] == "holder" else one[3]) for one in self.caveats if names_key(one)]
        # What stands below a bearer's hop has no key: `signatures` says why.
        self.unsigned = [one for one in self.unsigned if one] if self.keys else []
        if self.keys and self.unsigned[-1:] == ["hop_unsigned"]:
            self.unsigned = self.unsigned[:-1]
        self.ids = [digest_text(one[:16]) for one in self.d]
        self.path = [digest_text(one) for one in naive.path(self.claims, self.caveats)]
        steps = [one for root in [self.claims["root"]] for granted in root[2:] for one in granted]
        self.hops = [one[0] for one in steps] + [one[1] for one in self.caveats if one[0] == "hop"]
        self.nonces = [one[1] for one in steps] + [one[2] for one in self.caveats if one[0] == "hop"]
        self.expires = min(one[1] for one in self.caveats if one[0] == "expires")
        self.digest = digest_text(self.d[-1])

    def claim(self, name: str) -> Any:
        return self.claims[name][1] if name in self.claims else None

    def over_hops(self) -> bool:
        return bool(naive.standing(self.claims, self.caveats, {"tenant": None}, {"age": 0}))


def names_key(caveat: Any) -> bool:
    return caveat[0] == "holder" or (caveat[0] == "hop" and len(caveat) == 4)


def key_text(public: bytes) -> str:
    return f"ed25519:{digest_text(public)}"


def presented(chain: Chain, text: Any) -> Any:
    """The id, time, profile and digest of a presentation, and whether its holder's key has signed it."""
    block = block_of(text)
    caveats = naive.read(block)
    if not caveats or caveats[0][0] != "call":
        return None
    d = hashed(b"capx/1/block", chain.d[-1], block)
    _, profile, request, at, _ = caveats[0]
    signed = caveats[1:] and caveats[1][0] == "sig" and bool(chain.keys)
    if signed:
        signature = caveats[1][1]
        good = block.endswith(f',["sig","{signature}"]]'.encode())
        signed = good and naive_ed25519.is_signed(
            chain.keys[-1], hashed(b"capx/1/sig", chain.d[-1], block[:-98]), unb64u(signature)
        )
    return digest_text(d[:16]), at, profile, request, bool(signed) and len(caveats) == 2


def same_value(stated: Any, true: Any) -> bool:
    """Whether a resource shows this value; it may show what is no JSON between systems."""
    try:
        return bool(canonical(stated) == canonical(true))
    except Broken:
        return False


def tool(action: str, args: Any) -> str:
    return digest(rfc8785({"action": action, "args": args}).encode())


def findings(data: bytes, trust: str) -> tuple[list[str], list[str]]:
    """The contradictions and the gaps of a proof; Broken if it is broken."""
    proof = strict(data.decode())
    demand(of_form(proof, FORM) and proof["capx_proof"] == 1)
    for part in ("intent", "requests", "approvals", "asked", "disclosed"):
        canonical(proof.get(part))
    demand(not any(one["at"] < 0 for one in proof.get("requests", ())))
    authorities, keys, quorum, people = trusted(trust)
    logs = [source(one, proof["task"], keys, authorities, quorum) for one in proof["sources"]]
    demand(len({one["origin"] for one in logs}) == len(logs) == len(proof["sources"]))
    demand(sum(one["origin"] in authorities for one in logs) == 1)
    logs.sort(key=lambda one: one["origin"] not in authorities)
    return Reader(proof, logs, people, keys, authorities).read()


def source(one: Any, task: str, keys: Any, authorities: Any, quorum: int) -> Any:
    """One log: its origin, its events with their bodies, and when witnesses had seen it."""
    origin, size, root, signers, times, text = note(one["note"], keys, authorities)
    demand(one["of"] == task and len(times) >= quorum and 0 <= one["at"] <= MOST)
    events, hashes = [], []
    for each in one["events"]:
        demand(of_form(each, EVENT) and 1 <= each["position"] <= MOST and 0 <= each["at"] <= MOST)
        counts = each["position"].to_bytes(8, "big"), each["at"].to_bytes(8, "big")
        body = each["body"].encode()
        hashes.append(hashed(b"capx/1/event", unb64u(each["before"]), *counts, each["kind"].encode(), body))
        demand(rooted(hashes[-1], each["position"] - 1, size, [unb64u(step) for step in each["path"]]) == root)
        events.append({**each, "hash": hashes[-1]})
    demand(all(a["position"] < b["position"] for a, b in pairwise(events)))
    message = hashed(b"capx/1/extract", task.encode(), str(one["at"]).encode(), text.encode(), *hashes)
    demand(any(naive_ed25519.is_signed(public, message, unb64u(one["sig"])) for public in signers))
    return {"origin": origin, "size": size, "at": one["at"], "times": times, "events": events}


class Reader:
    """One reading of a proof whose signatures and paths are good."""

    def __init__(self, proof: Any, logs: Any, people: Any, keys: Any, authorities: Any) -> None:
        self.proof, self.logs, self.people, self.own = proof, logs, people, logs[0]
        self.names = {name for (name, _), (kind, _) in keys.items() if kind == "log" and name not in authorities}
        self.told, self.gaps = list[str](), list[str]()
        self.chains, self.minted, self.approvals = dict[str, Chain](), dict[str, Any](), dict[str, Any]()
        self.first_blocks = dict[str, Any]()

    def tell(self, good: Any, what: str) -> None:
        if not good:
            self.told.append(what)

    def read(self) -> tuple[list[str], list[str]]:
        openings = [one for one in self.own["events"] if one["kind"] == "task_opened"]
        demand(len(openings) == 1)
        self.opening = openings[0]
        for log in self.logs:
            for event in log["events"]:
                demand(self.belongs(event, log is self.own))
        self.facts = [{**event, "body": self.body(event)} for event in self.own["events"] if event["kind"] in BODIES]
        self.opened = self.body(self.opening)
        demand(self.opened["task"] == self.proof["task"])
        root = hashed(b"capx/1/root", self.opened["root"].encode())[:16]
        self.tell(self.opened.get("node") == digest_text(root), "node")
        self.intent()
        self.decisions()
        self.collect()
        self.answers()
        self.asks()
        self.mints()
        for one in self.decided.values():
            self.decision(*one)
        self.disclosures()
        self.together()
        return self.told, self.gaps

    # Events.

    def belongs(self, event: Any, own: bool) -> bool:
        try:
            body = json.loads(event["body"], parse_constant=demand)
        except ValueError:
            return False
        task = body.get("task") if type(body) is dict else None
        named = task if type(task) is str else None
        if named is not None and event["body"].count('"task"') != 1:
            try:
                strict(event["body"])
            except (Broken, ValueError):
                named = None
        general = own and event["kind"] in {"revoked", "restored"} and event["position"] > self.opening["position"]
        odd = type(body) is not dict or type(task) not in {str, type(None)}
        return named == self.proof["task"] or (named is None and general and not odd)

    def body(self, event: Any) -> Any:
        if event["kind"] == "decision":
            return None
        body = json.loads(event["body"], parse_constant=demand)
        demand(of_form(body, BODIES[event["kind"]]))
        return body

    # People.

    def keys_of(self, name: str) -> list[bytes]:
        found = [key for who, key in self.people if who == name]
        demand(found)
        return found

    def intent(self) -> None:
        opened, part, said = self.opened, self.proof.get("intent"), self.opened.get("intent")
        demand(said is not None or part is None)
        if part is None:
            self.gaps += ["intent"] * (said is not None)
            return
        document, signature, attested = part["document"], part.get("signature"), part.get("attested")
        demand((signature is None) != (attested is None))
        sha = digest(canonical(document))
        demand(sha == said and attested == opened.get("attested"))
        principal = document["principal"]
        if signature is not None:
            message = hashed(b"capx/1/intent", sha.encode())
            demand(any(naive_ed25519.is_signed(key, message, unb64u(signature)) for key in self.keys_of(principal)))
        for name in ("principal", "tenant", "purpose", "agent"):
            self.tell(document.get(name) == opened.get(name), name)
        self.tell(document.get("agent_key") in {None, opened.get("holder")}, "holder")
        self.tell(opened["expires"] <= document["not_after"], "lives longer")
        at = self.opening["at"]
        self.tell(document["issued"] - CLOCKS <= at < document["not_after"] + CLOCKS, "opened when")
        ours = self.own["origin"].removeprefix("capx/").split(".")[0]
        self.tell(document["authority"].split(".")[0] == ours, "another authority")

    def answers(self) -> None:
        parts = self.proof.get("requests", [])
        unused = {(one["approver"], one["signature"]): one for one in parts}
        demand(len(unused) == len(parts))
        self.rounds: dict[str, list[Any]] = defaultdict(list)
        for event in self.facts:
            kind, said = event["kind"], event["body"]
            if kind == "request_made":
                made = {"event": event, "said": said, "yes": None, "shown": None, "over": False}
                self.rounds[said["request"]].append(made)
            if kind == "request_expired":
                for one in self.rounds.get(said["request"], [])[-1:]:
                    one["over"] = True
            if kind not in {"request_approved", "request_denied"}:
                continue
            yes, rounds = kind == "request_approved", self.rounds.get(said["request"], [])
            self.tell(rounds, "nobody had asked")
            part = unused.pop((said["approver"], said["signature"]), None)
            shown = None
            if part is None:
                self.gaps.append("answer")
            else:
                shown = part["shown"]
                demand(shown.get("id") == said["request"] and part["yes"] == yes)
                words = [part["approver"].encode(), b"yes" if yes else b"no", str(part["at"]).encode()]
                message = hashed(b"capx/1/verdict", sha256(canonical(shown)).digest(), *words)
                signature = unb64u(part["signature"])
                demand(any(naive_ed25519.is_signed(key, message, signature) for key in self.keys_of(said["approver"])))
                form = {**dict.fromkeys(["task", "action", "audience", "block"], str), "...": 0}
                form |= {"intent?": MAYBE, "args?": MAYBE, "until?": int, "approval?": (dict, None), "carried?": TEXTS}
                demand(
                    of_form(shown, {**form, **dict.fromkeys(["labels?", "path?", "approvers?", "excluded?"], TEXTS)})
                )
                demand((shown["task"], shown.get("intent")) == (self.opened["task"], self.opened.get("intent")))
                asked = min([one["event"]["at"] for one in rounds], default=part["at"])
                self.tell(part["at"] <= event["at"] + CLOCKS and part["at"] + CLOCKS >= asked, "answered when")
                self.tell(part["at"] + 300 + CLOCKS >= event["at"], "answered when")
            if rounds:
                self.answered(rounds[-1], event, yes, shown)
        demand(not unused)

    def answered(self, last: Any, event: Any, yes: bool, shown: Any) -> None:
        """Compare an answer with the request that was made last."""
        made, who = last["said"], event["body"]["approver"]
        self.tell(not last["over"] and event["at"] < made["until"] + CLOCKS, "over already")
        if shown is not None:
            seen = [shown.get("path", []), shown.get("labels", []), shown["audience"], shown["action"]]
            seen += [shown.get("approvers", []), shown.get("until", 0)]
            told = [made[name] for name in ("path", "hops", "audience", "action", "approvers", "until")]
            self.tell(seen == told, "shown another request")
        own = who == self.opened.get("principal") or who in (shown or {}).get("excluded", [])
        self.tell(not (yes and own), "own work")
        last["over"] = True
        if yes:
            last |= {"yes": event["position"], "shown": shown}

    # Tokens.

    def collect(self) -> None:
        """All chains and approvals, by their digests."""
        for event in self.facts:
            said = event["body"]
            if event["kind"] == "capability_minted":
                self.take(said.get("chain"), said.get("digest"))
                if said.get("digest") is not None:
                    self.minted[said["digest"]] = said
                    if said["digest"] in self.chains:
                        self.first_blocks[digest_text(self.chains[said["digest"]].d[1])] = said
        for said, _ in self.decided.values():
            self.take(said.get("chain"), said.get("digest"))
            for one in said.get("approvals", []):
                with suppress(PermissionError, ValueError, Broken, KeyError, IndexError):
                    if one.get("cid") is not None and one["digest"] not in self.approvals:
                        blocks = [block_of(text) for text in one["blocks"]]
                        found = naive.approved(one["cid"].encode("ascii"), blocks)
                        d = hashed(b"capx/1/discharge", one["cid"].encode())
                        for block in blocks:
                            d = hashed(b"capx/1/block", d, block)
                        if digest_text(d) == one["digest"]:
                            self.approvals[one["digest"]] = {**found, "cid": one["cid"].encode()}

    def take(self, text: Any, said: Any) -> None:
        if text is None:
            return
        try:
            chain = Chain(text["identifier"], [block_of(one) for one in text["blocks"]])
        except (ValueError, Broken):
            self.told.append("no chain")
            return
        self.tell(chain.digest == said, "another digest")
        if chain.digest == said:
            self.chains.setdefault(said, chain)

    def holder(self, chain: Chain) -> Any:
        return key_text(chain.keys[0]) if chain.keys else None

    def mints(self) -> None:
        opened = self.opened
        for event in self.facts:
            if event["kind"] != "capability_minted":
                continue
            said = event["body"]
            chain, request = self.chains.get(said.get("digest") or ""), said.get("request")
            self.tell(chain, "minted without a chain")
            if chain is None:
                continue
            own = (chain.ids, chain.audience, chain.kid) == (said["ids"], said["audience"], said["kid"])
            self.tell(own, "another chain than its ids")
            self.tell(self.claims(chain), "other claims")
            self.tell(chain.expires <= opened["expires"], "lives longer")
            self.tell(request is not None or self.holder(chain) == opened.get("holder"), "first holder")
            self.tell(request is None or bool(chain.keys) == (opened.get("holder") is not None), "without a key")
            steps = [one for root in [chain.claims["root"]] for granted in root[2:] for one in granted]
            self.tell(len(steps) == len(chain.hops), "a delegation behind")
            self.tell(request is not None or not chain.hops, "by hand below")
            uses = any(re.fullmatch(USES, counter) for counter, _ in self.allotted(chain))
            self.tell(request is not None or not uses, "by hand with uses")
            self.tell(abs(chain.issued - event["at"]) <= CLOCKS, "issued when")
            before = [one for one in self.rounds.get(request, []) if one["event"]["position"] < event["position"]]
            no = [
                one["position"]
                for one in self.facts
                if one["kind"] == "request_denied" and one["body"]["request"] == request
            ]
            self.tell(not no or min(no) > event["position"], "denied")
            if said.get("consent") and request is not None:
                self.tell(before, "nobody was asked")
            if said.get("consent") and before:
                last = before[-1]
                if last["yes"] is None or last["yes"] > event["position"]:
                    self.told.append("nobody had agreed")
                    continue
                self.tell(said.get("round") == last["said"]["round"], "another round")
                if last["shown"] is not None:
                    shown = last["shown"]["block"].encode(), last["shown"]["audience"]
                    self.tell((chain.blocks[0], chain.audience) == shown, "not what was shown")
                    cids = [one[1].decode("latin-1") for one in chain.blocks if type(one) is tuple]
                    carried = last["shown"].get("carried", [])
                    policys = cids[: max(0, len(cids) - len(carried))]
                    one_more = last["shown"].get("approval") is not None
                    same = cids[len(policys) :] == carried and len(policys) == one_more
                    self.tell(same, "other approvals")

    def claims(self, chain: Chain) -> bool:
        return all(chain.claim(name) == self.opened.get(name) for name in ("task", "root", "tenant", "intent"))

    # Asks.

    def asks(self) -> None:
        parts = {one["position"]: one for one in self.proof.get("asked", [])}
        demand(len(parts) == len(self.proof.get("asked", [])))
        uses, granted = dict[str, Any](), set[str]()
        self.actions = dict[Any, str]()
        made = dict[Any, int]()
        for event in self.facts:
            said, kind = event["body"], event["kind"]
            if kind not in {"request_made", "capability_minted"} or said.get("request") is None:
                continue
            use = said["request"], said.get("round")
            if kind == "request_made":
                made[use] = event["at"]
            ask = said.get("ask")
            if ask is None:
                self.gaps += ["who asked"] * (self.opened.get("holder") is not None)
                continue
            part = parts.pop(event["position"], None)
            if part is None:
                self.gaps.append("what was asked for")
            else:
                args = canonical(part["args"])
                demand(digest_text(hashed(b"capx/1/args", unb64u(part["salt"]), args)) == ask["args"])
            waited = kind == "request_made" or said.get("consent")
            since = made.get(use, event["at"]) if waited else event["at"]
            found = self.asked(event, ask, part and part["args"], since)
            if found is not None:
                self.actions[found] = "approval.request" if said.get("call") else "grant.request"
                other = uses.setdefault(found, use) != use or found in granted
                self.tell(not other, "presented twice")
                granted |= {found} if kind == "capability_minted" else set()
        demand(not parts)

    def asked(self, event: Any, ask: Any, args: Any, since: int) -> Any:
        """Compare one ask with its event; the id of its presentation."""
        said, given = event["body"], self.first_blocks.get(ask["after"])
        base = None if given is None else self.chains.get(given["digest"])
        if base is None or given is None or given.get("request") is not None or base.audience != "authority":
            self.told.append("another chain")
            return None
        try:
            more = [block_of(one) for one in ask.get("blocks", [])]
            chain = Chain(base.identifier, [base.blocks[0], *more])
        except (ValueError, Broken):
            self.told.append("no chain")
            return None
        self.tell(base.d[-1] in chain.d, "left out")
        self.tell(not chain.unsigned, "unsigned")
        self.tell(self.holder(chain) == self.opened.get("holder"), "first holder")
        self.tell(chain.claim("task") == self.opened["task"], "another task")
        self.tell(event["at"] < chain.expires + CLOCKS, "expired")
        self.tell((chain.path, chain.hops) == (said.get("path", []), said.get("hops", [])), "another agent")
        minted = event["kind"] == "capability_minted"
        grant = self.chains.get(said.get("digest") or "") if minted else None
        self.tell(not minted or said.get("asker", []) == chain.ids, "another asker")
        if grant is not None:
            to = (grant.path, grant.hops, grant.keys)
            self.tell(to == (chain.path, chain.hops, chain.keys[-1:]), "went to another")
        policy = minted and not said.get("consent")
        self.tell(not policy or ask.get("names") is None, "free")
        begun = all(event["at"] >= one[1] for one in chain.caveats if one[0] == "not_before")
        self.tell(begun and not chain.over_hops(), "not valid")
        action = "approval.request" if said.get("call") else "grant.request"
        if args is not None:
            call = {"action": action, "args": args, "attributes": {}, "tenant": None}
            allows = [one for one in chain.caveats if one[0] == "allow"]
            self.tell(all(naive.refusal(one, call, event["at"], 0) is None for one in allows), "may not ask")
            self.tell(self.fits(said, ask, args, chain, grant), "another ask")
        if self.opened.get("holder") is None:
            return None
        try:
            seen = None if ask.get("presented") is None else presented(chain, ask["presented"])
        except Broken:
            seen = None
        if seen is None:
            self.told.append("nothing presented")
            return None
        id_, at, profile, request, signed = seen
        self.tell(signed, "presentation unsigned")
        self.tell(since - LATE - CLOCKS <= at <= event["at"] + EARLY + CLOCKS, "presented when")
        self.tell(args is None or (profile, request) == ("tool", tool(action, args)), "presented for another")
        return id_

    def fits(self, said: Any, ask: Any, args: Any, chain: Chain, grant: Any) -> bool:
        """Whether the call that asked is that of the event, its request and the grant."""
        named = {"audience": str, "action": str, "args?": (dict, None), "demand?": MAYBE}
        if not of_form(args, named) or (args.get("demand") is not None) != bool(said.get("call")):
            return False
        if not re.fullmatch(naive.TEXTS["action"], args["action"]):
            return False
        names, inner, demanded = ask.get("names"), args.get("args"), args.get("demand")
        counted = inner
        if names is not None:
            counted = {name: inner[name] for name in names if name in (inner or {})}
        label = b"capx/1/request" if demanded is None else b"capx/1/approval-request"
        by = (ask.get("offer") or "") if demanded is None else demanded
        parts = [args["audience"].encode(), args["action"].encode(), by.encode()]
        parts += [] if counted is None else [canonical(counted)]
        good = digest_text(hashed(label, chain.d[-1][:16], *parts)[:16]) == said["request"]
        good = good and args["audience"] == said["audience"]
        if grant is None:
            text = None if counted is None else canonical(counted).decode()
            seen = [one["shown"] for one in self.rounds[said["request"]] if one["said"] is said and one["shown"]]
            good = good and all(one.get("args") == text for one in seen)
            good = good and all(self.offer(json.loads(one["block"])) == ask.get("offer") for one in seen)
            return good and ("action" not in said or args["action"] == said["action"])
        allows = [one for one in naive.read(grant.blocks[0]) if one[0] == "allow"]
        if len(allows) != 2 or len(allows[1][1]) != 1 or self.offer(allows) != ask.get("offer"):
            return False
        pattern, *pairs = allows[1][1][0]
        free = inner is None and names is None
        good = good and pattern == args["action"] and free == (not pairs)
        return good and (free or self.pins(dict(pairs[0]), inner, names))

    def offer(self, block: Any) -> Any:
        """The digest of what the policy offers: of the first of two allowlists."""
        allows = [one for one in block if one[0] == "allow"]
        return digest_text(sha256(canonical(allows[0])).digest()) if len(allows) == 2 else None

    def pins(self, rules: Any, inner: Any, names: Any) -> bool:
        """Whether an entry pins exactly these arguments, or those of these names."""
        wanted = {name: value for name, value in (inner or {}).items() if names is None or name in names}
        missing = {} if names is None else {name: ["absent"] for name in names if name not in (inner or {})}
        missing |= {} if names is None else {"*": ["anything"]}
        held = {name: rule for name, rule in rules.items() if name not in missing}
        return (
            held.keys() == wanted.keys()
            and all(name in rules and rules[name] == rule for name, rule in missing.items())
            and all(naive.judge(rule, wanted[name]) is True for name, rule in held.items())
        )

    # Decisions.

    def decisions(self) -> None:
        """All decisions that can be read, each with the logs that have it."""
        self.decided = dict[Any, tuple[Any, list[Any]]]()
        for log in self.logs:
            for event in log["events"]:
                if event["kind"] != "decision":
                    continue
                body: Any = None
                with suppress(ValueError):
                    body = json.loads(event["body"], parse_constant=demand)
                good = of_form(body, BODIES["decision"]) and body["outcome"] in {"allowed", "denied"}
                good = good and (body.get("chain") is None or of_form(body["chain"], CHAIN))
                if good:
                    known = self.decided.setdefault((body["audience"], body["id"]), (body, []))
                    known[1].append((log, event))
                else:
                    audience = body.get("audience") if type(body) is dict else None
                    demand(log is self.own and audience != "authority")
                    self.told.append("unreadable")

    def decision(self, said: Any, logs: list[Any]) -> None:
        allowed, keyed = said["outcome"] == "allowed", self.opened.get("holder") is not None
        chain = self.chains.get(said.get("digest") or "")
        shown = None
        if chain is not None:
            names = ("task", "root", "tenant", "intent")
            self.tell(all(said.get(name) == chain.claim(name) for name in names), "other claims")
            lists = (said.get("hops", []), said.get("nonces", []), said.get("ids", []), said["audience"])
            self.tell(lists == (chain.hops, chain.nonces, chain.ids, chain.audience), "another chain")
            self.tell(self.claims(chain), "other claims")
            self.tell(any(digest_text(one) in self.minted for one in chain.d), "minted nowhere")
            self.tell(not chain.unsigned, "chain unsigned")
            if allowed:
                self.tell(self.lawful(said, chain), "unlawful")
            else:
                self.tell(said.get("key") in {None, *map(key_text, chain.keys[-1:])}, "another key")
            shown = self.presentation(said, chain)
            self.approved(said, chain)
        elif said.get("digest") is not None:
            self.told.append("chain nowhere")
        elif allowed:
            self.tell(all(said.get(name) == self.opened.get(name) for name in ("root", "tenant", "intent")), "claims")
            self.tell(said["at"] < self.opened["expires"], "after the task")
        action = said.get("action")
        self.tell(action is None or re.fullmatch(naive.TEXTS["action"], action), "no action")
        if keyed and (allowed or chain is not None) and shown is None:
            self.gaps.append("who called")
        said["presentation seen"] = shown

    def lawful(self, said: Any, chain: Chain) -> bool:
        action, at = said.get("action"), said["at"]
        entries = [one[1] for one in chain.caveats if one[0] == "allow"]
        permitted = all(any(fnmatchcase(action or "", one[0]) for one in each) for each in entries)
        begun = all(at >= one[1] for one in chain.caveats if one[0] == "not_before")
        holder = not chain.keys or said.get("key") == key_text(chain.keys[-1])
        times = at < chain.expires and at + CLOCKS >= chain.issued
        return (action is None or permitted) and times and begun and not chain.over_hops() and holder

    def presentation(self, said: Any, chain: Chain) -> Any:
        if said.get("presented") is None:
            return None
        try:
            found = presented(chain, said["presented"])
        except Broken:
            found = None
        if found is None:
            self.told.append("no presentation")
            return None
        id_, at, _, _, signed = found
        allowed = said["outcome"] == "allowed"
        self.tell(id_ == said.get("presentation"), "another presentation")
        self.tell(signed or not (allowed or chain.keys), "presentation unsigned")
        away = max(at - EARLY - said["at"], said["at"] - at - LATE)
        self.tell(not allowed or away <= CLOCKS, "outside the window")
        return found

    def approved(self, said: Any, chain: Chain) -> None:
        allowed = said["outcome"] == "allowed"
        demands = [one[1] for one in chain.blocks if type(one) is tuple and naive.approvers(one[1]) is not None]
        lacking = Counter(demands)
        for one in said.get("approvals", []):
            found = self.approvals.get(one["digest"])
            if found is None:
                self.told.append("no approval")
                continue
            faults = naive.misfits(found, chain.claims, chain.caveats, chain.blocks, (said["audience"], said["at"]))
            entries = [each[1] for each in found["caveats"] if each[0] == "allow"]
            action = said.get("action")
            permitted = all(any(fnmatchcase(action or "", entry[0]) for entry in each) for each in entries)
            ends = min(each[1] for each in found["caveats"] if each[0] == "expires")
            document = self.documents().get(found["stated"][3])
            bad = bool(faults) or action is None or not permitted or said["at"] >= ends
            bad = bad or (document is not None and document["task"] != said.get("task"))
            if lacking[found["cid"]] > 0:
                lacking[found["cid"]] -= not bad
            else:
                bad = True
            self.tell(not (bad and allowed), "approval does not count")
        asks = said["audience"] == "authority" and said.get("action") in {"grant.request", "approval.request"}
        self.tell(not allowed or asks or lacking.total() == 0, "without approvals")

    def documents(self) -> dict[str, Any]:
        return {digest(canonical(one)): one for one in self.proof.get("approvals", [])}

    def disclosures(self) -> None:
        documents = self.documents()
        demand(len(documents) == len(self.proof.get("approvals", [])))
        demand(documents.keys() <= {one["stated"][3] for one in self.approvals.values()})
        disclosed = {one["decision"]: one for one in self.proof.get("disclosed", [])}
        demand(len(disclosed) == len(self.proof.get("disclosed", [])))
        used = set[str]()
        for said, _ in self.decided.values():
            one = disclosed.get(said["id"])
            args = b"" if one is None else canonical(one["args"])
            if one is None or said.get("args") != digest_text(hashed(b"capx/1/args", unb64u(one["salt"]), args)):
                continue
            used.add(said["id"])
            clear = said.get("shown_args") or {}
            same = all(name in one["args"] and same_value(clear[name], one["args"][name]) for name in clear)
            self.tell(same, "other arguments in the clear")
            seen, action, filled = said["presentation seen"], said.get("action"), None
            if seen is not None and seen[2] == "tool" and re.fullmatch(naive.TEXTS["action"], action or ""):
                few = len(one["args"]) <= 8 and len(args) <= 16 * 1024
                filled = self.filled(action, one["args"], seen[3], few)
                self.tell(filled is not None or not few, "presented for other arguments")
            if said["outcome"] == "allowed":
                chain = self.chains.get(said.get("digest") or "")
                judged = [] if chain is None else [chain.caveats]
                found = [self.approvals.get(each["digest"]) for each in said.get("approvals", [])]
                judged += [each["caveats"] for each in found if each is not None]
                self.tell(all(self.permits(said, each, one["args"], filled) for each in judged), "other arguments")
        demand(used == disclosed.keys())

    def filled(self, action: str, args: Any, request: str, few: bool) -> Any:
        for count in range((len(args) if few else 0) + 1):
            for left in combinations(args, count):
                if tool(action, {name: value for name, value in args.items() if name not in left}) == request:
                    return left
        return None

    def permits(self, said: Any, caveats: Any, args: Any, filled: Any) -> bool:
        unsent = set(args) if filled is None else set(filled)
        sent = {name: value for name, value in args.items() if name not in unsent}
        defaults = {name: value for name, value in args.items() if name in unsent}
        call = {
            "action": said.get("action") or "",
            "args": sent,
            "defaults": defaults,
            "attributes": {},
            "tenant": None,
        }
        about = [one for one in caveats if one[0] == "allow" or (one[0] == "where" and one[1].startswith("args."))]
        return all(naive.refusal(one, call, said["at"], 0) is None for one in about)

    # All together.

    def together(self) -> None:
        for log in self.logs:
            self.dated(log)
        with_ledger = {audience_of(one["origin"]) for one in self.logs[1:]}
        lone = Counter[str]()
        allowed: dict[str, list[Any]] = defaultdict(list)
        for said, logs in self.decided.values():
            self.tell(len({event["body"] for _, event in logs}) == 1, "told differently")
            self.tell(len({log["origin"] for log, _ in logs}) == len(logs), "twice in one log")
            for log, _ in logs:
                self.tell(log is self.own or audience_of(log["origin"]) == said["audience"], "log of another")
            if said["audience"] in with_ledger and all(log is self.own for log, _ in logs):
                lone[said["audience"]] += 1
            self.tell(said["at"] + CLOCKS >= self.opening["at"], "before the task")
            if said["outcome"] == "allowed" and said.get("presentation") is not None:
                allowed[said["presentation"]].append(said)
        self.gaps += ["in one log"] * len(lone)
        for uses in allowed.values():
            times = [one["at"] for one in uses]
            one_call = len({one["audience"] for one in uses}) == 1 and max(times) - min(times) <= LATE + EARLY + 11
            tools = any(one["presentation seen"] and one["presentation seen"][2] == "tool" for one in uses)
            self.tell(one_call and not (tools and len({one.get("action") for one in uses}) > 1), "presented twice")
        self.budgets()
        self.numbers()
        self.after_end()
        self.ends()
        for said, _ in self.decided.values():
            action = self.actions.get(said.get("presentation"))
            own = ("authority", action) == (said["audience"], said.get("action"))
            self.tell(action is None or own, "an ask told otherwise")
        for name in self.names:
            found = any(one["origin"] == name or one["origin"].startswith(f"{name}/") for one in self.logs)
            self.tell(found, "a trusted log is missing")

    def dated(self, log: Any) -> None:
        latest, seen = 0, min(log["times"], default=None)
        for event in log["events"]:
            at = event["at"]
            if event["kind"] != "decision":
                self.tell(at + CLOCKS >= latest, "dated back")
                latest = max(latest, at)
            else:
                body: Any = None
                with suppress(ValueError):
                    body = json.loads(event["body"])
                said = body.get("at") if type(body) is dict else None
                self.tell(type(said) is not int or said == at, "dated otherwise")
            self.tell(at <= log["at"] + CLOCKS, "dated ahead")
            self.tell(seen is None or at <= seen + CLOCKS, "after a witness")

    def budgets(self) -> None:
        returned = {one["body"]["presentation"] for one in self.facts if one["kind"] == "given_back"}
        paid, limits = defaultdict[Any, set[str]](set), dict[Any, Decimal]()
        for said, _ in self.decided.values():
            presentation = said.get("presentation")
            if said["outcome"] != "allowed" or said["audience"] == "authority" or presentation in {None, *returned}:
                continue
            found = dict[str, Decimal]()
            for counter, limit in self.counters(said):
                found[counter] = min(limit, found.get(counter, limit))
            for counter, limit in found.items():
                key = said["audience"], counter
                paid[key].add(presentation)
                limits[key] = max(limit, limits.get(key, limit))
        for key, presentations in paid.items():
            self.tell(len(presentations) <= limits[key], "overspent")

    def after_end(self) -> None:
        """Nothing is asked, answered or minted behind the end of the task, nor minted on what is dead."""
        over, dead = False, set[Any]()
        living = {"capability_minted", "request_made", "request_approved", "request_denied", "approval_made"}
        for event in self.facts:
            kind, said = event["kind"], event["body"]
            if kind in {"task_completed", "task_withdrawn", "task_expired"}:
                over = True
            elif kind == "revoked":
                dead |= {f"issued:{one}" if type(one) is int else one for one in killed(kind, said)}
            elif over and kind in living:
                self.told.append("behind the end")
            elif kind == "capability_minted":
                chain = self.chains.get(said.get("digest") or "")
                self.tell(dead.isdisjoint([*self.stands_on(chain), *said.get("asker", [])]), "minted on what is dead")

    def stands_on(self, chain: Chain | None) -> list[Any]:
        """The keys of all deaths that end a chain, except those of instants."""
        if chain is None:
            return []
        until = [one[1] for one in chain.caveats if one[0] == "until_completed"]
        named = [digest_text(one) for one in chain.key_ids]
        return [chain.claim("task"), *until, *chain.path, *chain.ids, *named, f"kid:{chain.kid}"]

    def numbers(self) -> None:
        """Rounds follow each other, and one root key grants each once."""
        rounds, granted = Counter[str](), dict[Any, Any]()
        for event in self.facts:
            said, minted = event["body"], event["kind"] == "capability_minted"
            if not (minted or event["kind"] == "request_made") or said.get("request") is None:
                continue
            request, number = said["request"], said.get("round") or 0
            self.tell(1 <= number <= rounds[request] + 1, "round")
            rounds[request] = max(number, rounds[request])
            if not minted:
                granted.pop((request, number), None)
                continue
            grant = said["kid"], None if said.get("chain") is None else said["chain"]["blocks"][:1]
            self.tell(granted.get((request, number)) != grant, "granted twice")
            granted[request, number] = grant

    def allotted(self, chain: Chain) -> list[tuple[str, Any]]:
        """The counter of each budget of a chain, with the budget."""
        found = list[tuple[str, Any]]()
        granted = len(chain.path) - 1 - [one[0] for one in chain.caveats].count("hop")
        for at, block in enumerate(chain.blocks):
            caveats = naive.read(block)
            hops = [one[0] for each in chain.blocks[: at + 1] for one in naive.read(each)].count("hop")
            own = caveats and caveats[0][0] == "hop"
            counter = chain.path[granted + hops] if own else chain.ids[at + 1]
            found += [(one[3] if len(one) == 4 else counter, one) for one in caveats if one[0] == "budget"]
        return found

    def counters(self, said: Any) -> list[tuple[str, Decimal]]:
        chain = self.chains.get(said.get("digest") or "")
        budgets = [] if chain is None else self.allotted(chain)
        found = [(counter, Decimal(one[2])) for counter, one in budgets if one[1] == "calls"]
        for each in said.get("approvals", []):
            approval = self.approvals.get(each["digest"])
            if approval is not None:
                own_id = digest_text(approval["deaths"][approval_id_at(approval)])
                found += [(own_id, Decimal(one[2])) for one in approval["caveats"] if one[:2] == ["budget", "calls"]]
        return found

    def ends(self) -> None:
        died, instants = self.deaths()
        for said, _ in self.decided.values():
            if said["outcome"] != "allowed":
                continue
            chain = self.chains.get(said.get("digest") or "")
            keys, issued = [said.get("task")], self.opening["at"]
            if chain is not None:
                issued = chain.issued
                keys += self.stands_on(chain)
            for each in said.get("approvals", []):
                found = self.approvals.get(each["digest"], {"deaths": []})["deaths"]
                keys += [one if type(one) is str else digest_text(one) for one in found]
            times = [died[key] for key in keys if key in died] + [at for second, at in instants if second >= issued]
            self.tell(not times or said["at"] - min(times) <= STALE + CLOCKS, "after its end")

    def deaths(self) -> tuple[dict[Any, int], list[tuple[int, int]]]:
        """When each key died first, and the instants up to which all was dead from some time on."""
        died, instants = dict[Any, int](), list[tuple[int, int]]()
        for event in self.facts:
            for key in killed(event["kind"], event["body"]):
                if type(key) is int:
                    instants.append((key, event["at"]))
                else:
                    died[key] = min(event["at"], died.get(key, event["at"]))
        return died, instants


def killed(kind: str, said: Any) -> list[Any]:
    """What died of an event: keys, and the second up to which all was dead."""
    if kind in {"task_completed", "task_withdrawn", "task_expired"}:
        return [said["task"]]
    if kind == "restored":
        return [said["issued"]]
    if kind != "revoked":
        return []
    others = said.get("others", [])
    if said.get("id") is not None:
        return [said["id"], *others]
    if said.get("key") is not None:
        with suppress(ValueError):
            public = unb64u(said["key"].removeprefix("ed25519:"))
            others = [*others, *([digest_text(hashed(b"capx/1/key", public)[:16])] if is_key(public) else [])]
        return [*others]
    if said.get("kid") is not None:
        return [f"kid:{said['kid']}", *others]
    return [*([] if said.get("issued") is None else [said["issued"]]), *others]


def approval_id_at(approval: Any) -> int:
    """Where the id of an approval stands among what ends it: behind its tasks and the id of its demand."""
    return [one[0] for one in approval["caveats"]].count("until_completed") + 1


def audience_of(origin: str) -> str:
    return origin.split("/")[1] if origin.count("/") >= 2 else ""
