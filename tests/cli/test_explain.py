"""What a call would be answered, foreseen from hop to hop without home or key."""

from pathlib import Path
from typing import Any

from capx.authority.authority import Authority
from capx.tokens import wire
from capx.tokens.bundle import Bundle
from capx.tokens.chain import extend
from capx_caveats import (
    Budget,
    Constraint,
    Fresh,
    Judgement,
    Value,
    action,
)
from tests.labs.own_constraints import Region

WARNING = "NOTHING WAS VERIFIED"


def test_a_call_is_foreseen_from_hop_to_hop(capx: Any, home: Any, slides: str) -> None:
    call = ("explain", "--action", "slides.write", "--arg")
    fine = home(*call, "deck=deck-42", token=slides)
    assert fine.out.startswith(f"{WARNING}: this is what the token says about itself.")
    assert "NOT REFUSED BY THE TOKEN  slides.write at slides" in fine.out
    assert '├── ?   tenant is "Acme"' in fine.out
    refused = home(*call, "deck=d7", token=slides, code=1).out
    assert "REFUSED BY THE TOKEN ITSELF  slides.write at slides" in refused
    assert '└── hop 1 ("slides-agent")' in refused
    assert '    ├── NO  allows only slides.write where deck is "deck-42"' in refused
    assert 'allows slides.write only where deck is "deck-42"; "deck" is "d7"' in refused
    assert "NO  tenant" in home(*call, "deck=deck-42", "--tenant", "Globex", token=slides, code=1).out
    assert "ok  tenant" in home(*call, "deck=deck-42", "--tenant", "Acme", token=slides).out
    view = home(*call, "deck=d7", "--json", token=slides, code=1).json
    assert (view["verified"], view["refused"]) == (False, True)
    tenant, *_ = view["restrictions"]
    assert (tenant["hop"], tenant["state"]) == (0, "open")
    assert "is for slides, not for crm" in home(*call, "x=1", "--audience", "crm", token=slides, code=2).err
    assert "Missing option '--action'" in home("explain", token=slides, code=2).err


def test_foreseeing_needs_neither_home_nor_key(capx: Any, home: Any, slides: str, tmp_path: Path) -> None:
    nowhere = {"CAPX_HOME": str(tmp_path / "nowhere")}
    forged = slides[:-8] + "AAAAAAAA"
    for token in (slides, forged):
        home("explain", "--action", "slides.write", "--arg", "deck=deck-42", token=token, **nowhere)
        home("can", token=token, **nowhere)
    assert not (tmp_path / "nowhere").exists()


def test_what_only_the_resource_knows_is_left_open(home: Any, slides: str) -> None:
    narrow = ("--where", "region=eu", "--where", "args.deck=deck-42")
    token = home("attenuate", *narrow, token=slides).token
    call = ("explain", "--action", "slides.write", "--arg", "deck=deck-42")
    assert '?   region is "eu"' in home(*call, token=token).out
    assert 'ok  region is "eu"' in home(*call, "--attribute", "region=eu", token=token).out
    assert 'NO  region is "eu"' in home(*call, "--attribute", "region=us", token=token, code=1).out
    assert 'NO  args.deck is "deck-42"' in home("explain", "--action", "slides.write", token=token, code=1).out
    demanding = Bundle.parse(slides).attenuate(Fresh(5), Budget("eur", "20")).text
    said = home(*call, token=demanding).out
    assert "?   news of revocations at most 5s old" in said
    assert "?   at most 20 eur" in said
    open_ = home("task", "open", "--allow", "crm.read").token
    said = home("explain", "--action", "crm.read", "--tenant", "Acme", token=open_, code=1).out
    assert "NO  names no tenant" in said


def test_a_services_own_caveat_is_not_said_to_refuse(home: Any, slides: str) -> None:
    token = Bundle.parse(slides).attenuate(Region("eu")).text
    call = ("--action", "slides.write", "--arg", "deck=deck-42")
    said = home("explain", *call, token=token).out
    assert "NOT REFUSED, AS FAR AS IS UNDERSTOOD HERE  slides.write at slides" in said
    assert '?   not understood: ["acme.region","eu"]' in said
    assert "unknown here: only the service that defines it can judge it" in said
    view = home("explain", *call, "--json", token=token).json
    assert (view["refused"], view["restrictions"][-1]["state"]) == (False, "not_understood")
    assert "REFUSED BY THE TOKEN ITSELF" in home("explain", *call[:-1], "deck=d7", token=token, code=1).out
    said = home("verify", *call, "--tenant", "Acme", token=token, code=1)
    assert '  ?   hop 1 ("slides-agent"): not understood: ["acme.region","eu"]' in said.out
    assert "A service may decide otherwise" in said.err
    assert "may decide otherwise" not in home("verify", *call, token=slides, code=1).err
    said = home("inspect", token=token).out
    assert "allows nothing" not in said
    assert 'and only where  a caveat of hop 1 ("slides-agent") is satisfied (unknown here, only the service' in said
    assert "will be denied" not in home("present", *call, token=token).err


def test_a_grant_with_an_own_constraint_is_left_to_the_service(home: Any) -> None:
    class Even(Constraint, frozen=True, tag="acme.even"):
        def judge(self, value: Value) -> Judgement:
            return value == 2

        def sentence(self) -> str:
            return "is even"

    with Authority.open_home(home.home) as authority:
        token = authority.open(allow=[action("crm.read", x=Even())]).bundle.text
    call = ("--action", "crm.read", "--arg", "x:=2")
    assert "NOT REFUSED, AS FAR AS IS UNDERSTOOD HERE  crm.read at crm" in home("explain", *call, token=token).out
    assert (
        "  cannot tell  its grant has caveats that are unknown here: only the service"
        in home("inspect", token=token).out
    )
    said = home("can", token=token)
    assert "crm" not in said.out
    assert "at crm: cannot tell (its grant has caveats that are unknown here" in said.err
    assert "will be denied" not in home("present", *call, token=token).err
    assert "may decide otherwise" in home("verify", *call, token=token, code=1).err
    narrowed = home("attenuate", "--expires", "1m", token=token).err
    assert "at crm: cannot tell" in narrowed
    assert "allows nothing any more" not in narrowed


def test_the_best_of_several_capabilities_answers(home: Any, task: str) -> None:
    more = home("mint", "last", "--allow", "crm.write").token
    for allowed in ("crm.read", "crm.write"):
        home("explain", "--action", allowed, token=f"{task},{more}")
    home("explain", "--action", "crm.erase", token=f"{task},{more}", code=1)


def test_what_no_call_can_cure_is_foreseen(home: Any, task: str) -> None:
    last = home("delegate", "--to", "a", "--max-hops", "0", token=task).token
    beyond = home("delegate", "--to", "b", token=last).token
    said = home("explain", "--action", "crm.read", token=beyond, code=1).out
    assert "NO  allows at most 0 more delegations, but 1 followed" in said
    token = Bundle.parse(task).text.split(",")[0]
    frame = wire.decode(token)
    block = b'[["task","another"]]'
    claiming = wire.encode(frame.identifier, (*frame.blocks, block), extend(frame.signature, block))
    said = home("explain", "--action", "crm.read", token=claiming, code=1).out
    assert "is not allowed at its place in this token" in said
