"""What a decision says so that others can check it: all of it follows from public bytes, and nothing is a token."""

import hashlib
import hmac
import json
from typing import Any

import msgspec
import pytest
import rfc8785

from capx.crypto.base64url import b64u, unb64u
from capx.crypto.ed25519 import is_signed, parse_public
from capx.crypto.hashing import digest
from capx.errors import ConfigurationProblem
from capx.tokens import wire
from capx.tokens.binding import ToolCall
from capx.tokens.chain_text import ChainText, read_block
from capx.verify.decision import Decision
from capx.verify.evidence import MAX_ARGS, args_commitment, salt_of
from capx.verify.protocols import NO_RECORDER
from capx_caveats import Call
from tests.labs.approving import ARGS, LEA, ApprovalLab, approved, demanding
from tests.labs.keyed import PLANNER, SLIDES, THIEF, keyed, mark, signed
from tests.labs.lab import KEY, NOW, Lab, minted


def body(decision: Decision) -> dict[str, Any]:
    """As the log has it."""
    found: dict[str, Any] = json.loads(msgspec.json.encode(decision.body()))
    return found


def allowed(lab: Lab, capability: Any, **args: Any) -> dict[str, Any]:
    decision = lab.decide(lab.present(capability, args=args), args=args)
    assert decision.allowed, decision.refusals
    return body(decision)


def test_the_chain_is_written_when_it_is_first_met() -> None:
    lab, held = Lab(), minted().delegate(to="a")
    first, second, other = allowed(lab, held), allowed(lab, held), allowed(lab, minted())
    assert first["digest"] == second["digest"] == b64u(held.digest)
    chain = msgspec.convert(first["chain"], ChainText)
    assert b64u(chain.digests()[-1]) == first["digest"]
    assert [b64u(each[:16]) for each in chain.digests()] == first["ids"]
    assert "chain" not in second
    assert other["digest"] != first["digest"]
    assert "chain" in other


def test_a_denial_has_the_chain_too() -> None:
    lab, held = Lab(), minted()
    denied = lab.decide(lab.present(held, "a.export"), "a.export")
    assert not denied.allowed
    assert body(denied)["digest"] == b64u(held.digest)
    assert "chain" in body(denied)
    assert "chain" not in allowed(lab, held)


def test_a_chain_that_could_not_be_recorded_comes_with_the_next() -> None:
    lab, held = Lab(), minted()
    lab.records.full = True
    assert not lab.decide(lab.present(held)).allowed
    lab.records.full = False
    assert "chain" in allowed(lab, held)


def test_nothing_of_it_is_a_token() -> None:
    lab, held = Lab(), keyed().delegate(to="slides", to_key=SLIDES).with_key(SLIDES)
    presentation = held.present(ToolCall("a.read"), now=NOW)
    decision = lab.verifier.decide(presentation.text, ToolCall("a.read"), Call("a.read"))
    said = json.dumps(body(decision))
    for token in (held, presentation):
        signature = wire.decode(token.text).signature
        assert b64u(signature) not in said
        assert b64u(signature)[:20] not in said
    assert "capx1_" not in said


def test_arguments_are_committed_to_with_a_salt_of_the_decision() -> None:
    lab, held = Lab(), minted()
    args: dict[str, Any] = {"id": 7, "name": "Zoë"}
    one, two = allowed(lab, held, **args), allowed(lab, held, **args)
    assert one["args"] != two["args"]
    for found in (one, two):
        # As the format says it, with nothing of ours.
        label = b"capx/1/salt"
        salt = hmac.digest(KEY.mac_key, label + digest(label, found["id"].encode()), "sha256")
        assert salt == salt_of(KEY, found["id"])
        covered = b"".join(len(part).to_bytes(4) + part for part in (b"capx/1/args", salt, rfc8785.dumps(args)))
        assert found["args"] == b64u(hashlib.sha256(covered).digest()) == args_commitment(salt, rfc8785.dumps(args))


def test_arguments_that_are_too_large_are_not_committed_to() -> None:
    lab, held = Lab(), minted()
    assert "args" in allowed(lab, held, text="x" * (MAX_ARGS - 100))
    for args in ({"text": "x" * MAX_ARGS}, {"all": list(range(MAX_ARGS + 1))}):
        found = allowed(lab, held, **args)
        assert "args" not in found
        assert found["args_digest"]


def test_the_presentation_of_a_keyed_token_is_kept() -> None:
    lab, held = Lab(), keyed().delegate(to="slides", to_key=SLIDES).with_key(SLIDES)
    presentation = held.present(ToolCall("a.read"), now=NOW)
    found = body(lab.verifier.decide(presentation.text, ToolCall("a.read"), Call("a.read")))
    block = read_block(found["presented"])
    assert block == presentation.blocks[-1]
    # Who has the public bytes can check the signature of the very call.
    assert isinstance(block, bytes)
    head, signature = block[:-98], unb64u(json.loads(block)[-1][1])
    message = digest(b"capx/1/sig", unb64u(found["digest"]), head)
    assert is_signed(parse_public(SLIDES.public), message, signature)
    assert "presented" not in allowed(lab, minted())


def test_without_evidence_the_call_cannot_be_guessed() -> None:
    lab, held = Lab(evidence=False), keyed(PLANNER)
    found = allowed(lab, held, id=7)
    assert {"args", "presented"}.isdisjoint(found)
    assert found["digest"] == b64u(held.digest)
    assert "chain" in found


def test_what_its_key_did_not_sign_is_no_evidence() -> None:
    lab, held = Lab(), keyed(PLANNER)
    own = lab.verifier.decide(signed(held, THIEF, mark(ToolCall("a.read"))).text, ToolCall("a.read"), Call("a.read"))
    assert not own.allowed
    assert {"digest", "chain", "args", "presented"}.isdisjoint(body(own))


def test_approvals_are_written_when_they_are_first_met() -> None:
    lab, held = ApprovalLab(), demanding()
    yes = approved(held, uses=3)
    found: list[Any] = []
    for _ in range(2):
        decision = lab.verifier.decide(lab.text(held, yes), ToolCall("a.write", ARGS), Call("a.write", ARGS))
        assert decision.allowed, decision.refusals
        found.append(body(decision)["approvals"])
    (first,), (second,) = found
    assert first["digest"] == second["digest"] == b64u(yes.digests[-1])
    assert (first["cid"], [read_block(text) for text in first["blocks"]]) == (yes.cid.decode(), list(yes.blocks))
    assert second.keys() == {"digest"}
    assert b64u(yes.signature) not in json.dumps(first)
    assert LEA.public.removeprefix("ed25519:") in first["cid"]


def test_named_arguments_are_shown_if_they_are_short() -> None:
    lab, held = Lab(record=("ticket", "amount", "all")), minted()
    assert allowed(lab, held, ticket="T-1", amount=40, secret="s")["shown_args"] == {"ticket": "T-1", "amount": 40}
    assert allowed(lab, held, ticket=None, amount=True)["shown_args"] == {"ticket": None, "amount": True}
    for args in ({"ticket": "x" * 129}, {"all": [1]}, {"all": {"a": 1}}, {"secret": "s"}, {}):
        assert "shown_args" not in allowed(lab, held, **args)


@pytest.mark.parametrize("record", ["ticket", ("",), ("a\n",), (7,)])
def test_what_names_no_argument_cannot_be_recorded(record: Any) -> None:
    with pytest.raises(ConfigurationProblem, match=r"the names of arguments: record=|is not the name of an argument"):
        Lab(record=record)


def test_nothing_is_computed_that_nobody_records() -> None:
    decision = Lab(recorder=NO_RECORDER).decide(Lab().present(minted()))
    assert (decision.evidence, decision.args, decision.args_digest) == (None, None, None)
