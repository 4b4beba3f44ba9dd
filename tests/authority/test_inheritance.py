"""What a grant inherits: every restriction of the chain that asks, in whichever block it stands."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from capx.authority.requests.inheritance import Asker, read_asker
from capx.crypto.base64url import b64u, unb64u
from capx.tokens import chain
from capx.tokens.chain import nodes
from capx.tokens.revocation_key import of_key
from capx.verify.ask import Ask
from tests.labs.lab import NONCES, NOW, ROOT_KEY, Lab, appended, minted, raw
from tests.labs.strategies import WHOLE, spelled

ASKED = Ask.of("crm.read")
KEYS = ("A" * 43, "B" * 42 + "A")
HOPS = [["hop", f"agent-{depth}", nonce] for depth, nonce in enumerate(NONCES)]


def asker(*blocks: Any, first: Sequence[Any] = ()) -> Asker:
    """Who asks with a chain of these blocks below a complete first one, as a presentation of it tells."""
    made = [block if isinstance(block, bytes | chain.ThirdParty) else spelled(block) for block in blocks]
    capability = raw(spelled([*WHOLE, *first]), *made, audience="authority")
    lab = Lab("authority")
    return read_asker(lab.verifier.authenticate(lab.present(capability)), ASKED)


def inherited(*blocks: Any, first: Sequence[Any] = ()) -> list[Any]:
    found = asker(*blocks, first=first)
    assert found.refusals == ()
    return [json.loads(piece) for piece in found.inherited]


def claims(*blocks: Any, first: Sequence[Any] = ()) -> list[Any]:
    return [json.loads(piece) for piece in asker(*blocks, first=first).claims]


def not_inherited(*blocks: Any, first: Sequence[Any] = ()) -> list[str]:
    return [refusal.code for refusal in asker(*blocks, first=first).refusals]


def test_who_asks_is_told_by_the_chain_without_its_presentation() -> None:
    capability = appended(minted(audience="authority"), spelled([HOPS[0]]), spelled([["fresh", 5]]), spelled([HOPS[1]]))
    lab = Lab("authority")
    found = read_asker(lab.verifier.authenticate(lab.present(capability)), ASKED)
    assert (found.task, found.tenant, found.labels) == ("T1", None, ("agent-0", "agent-1"))
    assert (found.path, found.ids) == (capability.path, capability.ids)
    assert (found.kid, found.issued, found.expires) == (ROOT_KEY.kid, NOW, NOW + 3600)
    assert found.node == capability.node
    assert found.revocation_keys == ("T1", *capability.path, *capability.ids, f"kid:{ROOT_KEY.kid}")


def test_a_bare_token_tells_the_same() -> None:
    capability = appended(minted(audience="authority"), spelled([HOPS[0], ["fresh", 5]]))
    lab = Lab("authority")
    bare = read_asker(lab.verifier.authenticate(capability.text), ASKED)
    presented = read_asker(lab.verifier.authenticate(lab.present(capability)), ASKED)
    assert replace(bare, token=None) == replace(presented, token=None)
    assert bare.token is not None
    assert presented.token is not None
    assert (bare.token.presented, bare.token.blocks) == (None, presented.token.blocks)


def test_the_root_is_named_with_a_path_that_is_never_empty() -> None:
    assert ["root", "R1"] in claims([["fresh", 5]])
    assert ["root", "R1", [["agent-0", NONCES[0]], ["agent-1", NONCES[1]]]] in claims([HOPS[0]], [HOPS[1]])


def test_what_was_granted_along_a_path_goes_on_from_it() -> None:
    lab = Lab("authority")
    whole = [["root", "R1", [["before", NONCES[3]]]] if one[0] == "root" else one for one in WHOLE]
    capability = raw(spelled(whole), spelled([["max_hops", 2]]), spelled([HOPS[0]]), audience="authority")
    found = read_asker(lab.verifier.authenticate(lab.present(capability)), ASKED)
    assert json.loads(found.claims[1]) == ["root", "R1", [["before", NONCES[3]], ["agent-0", NONCES[0]]]]
    assert found.path == nodes("R1", [NONCES[3], NONCES[0]])
    assert [json.loads(piece) for piece in found.inherited] == [["max_hops", 1]]


def test_claims_are_those_of_the_first_block() -> None:
    said = claims([HOPS[0]], first=[["tenant", "Acme"], ["intent", KEYS[0]]])
    assert said == [
        *(["task", "T1"], ["intent", KEYS[0]], ["root", "R1", [["agent-0", NONCES[0]]]], ["until_completed", "T1"]),
        ["tenant", "Acme"],
    ]


@pytest.mark.parametrize(
    "caveat",
    [
        ["until_completed", "T2"],
        ["where", "region", ["eq", "eu"]],
        ["where", "args.to", ["any", [["absent"], ["prefix", "a"]]]],
        ["acme.region", "eu", [1, "x"]],
    ],
)
@pytest.mark.parametrize("at", range(3))
def test_a_restriction_is_carried_on_from_every_block(caveat: list[Any], at: int) -> None:
    blocks: list[list[Any]] = [[], [HOPS[0]], [["fresh", 5]]]
    blocks[at].append(caveat)
    assert caveat in inherited(*blocks[1:], first=blocks[0])


def test_a_services_own_caveat_is_carried_on_as_it_was_spelt() -> None:
    spelling = b'["acme.region","\\u0065u",1.50,[ true ]]'
    assert asker(b'[["fresh",5],' + spelling + b"]").inherited[0] == spelling


def test_times_freshness_and_hops_are_folded_to_the_tightest() -> None:
    tight: list[list[Any]] = [["expires", NOW + 5], ["not_before", NOW], ["fresh", 3], ["max_hops", 2]]
    loose: list[list[Any]] = [["expires", NOW + 9], ["not_before", 7], ["fresh", 30], ["max_hops", 9]]
    for one, other in ((tight, loose), (loose, tight)):
        found = asker(one, other)
        assert found.expires == NOW + 5
        folded = [["not_before", NOW], ["fresh", 3], ["max_hops", 2]]
        assert [json.loads(piece) for piece in found.inherited] == folded


@pytest.mark.parametrize(
    ("blocks", "left"),
    [
        ([[["max_hops", 3]], [HOPS[0]], [HOPS[1]]], 1),
        ([[HOPS[0], ["max_hops", 3]], [HOPS[1]]], 2),
        ([[["max_hops", 2]], [HOPS[0]], [HOPS[1], ["max_hops", 5]]], 0),
        ([[["max_hops", 9]], [HOPS[0], ["max_hops", 1]], [["max_hops", 8]]], 1),
    ],
)
def test_hops_that_were_made_are_no_longer_left(blocks: list[Any], left: int) -> None:
    assert inherited(*blocks) == [["max_hops", left]]


def test_more_hops_than_allowed_are_not_carried_on() -> None:
    assert not_inherited([["max_hops", 0]], [HOPS[0]]) == ["not_inherited"]


def test_every_budget_is_carried_on_with_its_counter() -> None:
    blocks = [
        [["budget", "calls", "9"]],
        [HOPS[0], ["budget", "calls", "5"], ["budget", "eur", "0.5"]],
        [["budget", "calls", "5"]],
        [HOPS[1]],
    ]
    found = asker(*blocks, first=[["budget", "calls", "20", "shared"], ["budget", "eur", "7"]])
    node, ids = b64u(nodes("R1", [NONCES[0]])[1]), list(map(b64u, found.ids))
    assert [json.loads(piece) for piece in found.inherited] == [
        *(["budget", "calls", "20", "shared"], ["budget", "eur", "7", ids[1]], ["budget", "calls", "9", ids[2]]),
        *(["budget", "calls", "5", node], ["budget", "eur", "0.5", node], ["budget", "calls", "5", ids[4]]),
    ]


@pytest.mark.parametrize(
    ("blocks", "key"),
    [
        ([[HOPS[0]]], KEYS[0]),
        ([[[*HOPS[0], KEYS[1]]], [HOPS[1]]], KEYS[1]),
        ([[[*HOPS[0], KEYS[1]]], [[*HOPS[1], KEYS[0]]]], KEYS[0]),
    ],
)
def test_the_holder_is_the_key_that_was_named_last(blocks: list[Any], key: str) -> None:
    capability = raw(spelled([*WHOLE, ["holder", KEYS[0]]]), *map(spelled, blocks), audience="authority")
    # Nobody has these keys. Whether a presentation is signed is checked before anybody is read as an asker.
    found = read_asker(Lab("authority").verifier.authenticate(capability.text), ASKED)
    assert json.loads(found.claims[-1]) == ["holder", key]
    assert found.keys == tuple(unb64u(one.removeprefix("ed25519:")) for one in capability.keys)
    ids = tuple(dict.fromkeys(map(of_key, found.keys)))
    assert found.revocation_keys == ("T1", *capability.path, *capability.ids, *ids, f"kid:{ROOT_KEY.kid}")


def test_what_only_bounds_the_ask_is_not_carried_on() -> None:
    asking = ["grant.request", [["audience", ["anything"]], ["action", ["anything"]]]]
    assert inherited([HOPS[0], ["allow", [asking]]], [["tenant", "Acme"]], first=[["tenant", "Acme"]]) == []


@pytest.mark.parametrize(
    "block",
    [
        chain.ThirdParty(b"vid", b"cid"),
        [["tenant", "Globex"]],
        [["near", 1]],
        [["where", "region", ["acme.within", "eu"]]],
        [["expires", "soon"]],
        b'[ ["fresh",5], [ "acme.region","eu"]]',
        b"junk",
        b'[["fresh",5],{}]',
    ],
    ids=str,
)
def test_what_cannot_be_carried_on_refuses_the_ask(block: Any) -> None:
    assert not_inherited([HOPS[0]], block, first=[["tenant", "Acme"]]) == ["not_inherited"]


def test_a_tenant_further_down_is_another_than_none() -> None:
    assert not_inherited([["tenant", "Acme"]]) == ["not_inherited"]
