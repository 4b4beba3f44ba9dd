"""A token goes out as another library reads it."""

from typing import Any, get_args

import pytest
from pymacaroons import Macaroon

from capx.tokens.chain import ThirdParty
from capx.tokens.interop import Format
from tests.labs.lab import appended, minted

SECRET = "this is as secret as the token, and lacks the prefix by which scanners find tokens\n"


UNVERIFIED = "NOTHING WAS VERIFIED: the signature may be wrong. To check it: capx verify\n"


@pytest.fixture
def token(home: Any) -> str:
    opened: str = home("task", "open", "--allow", "crm.read", "--allow", "slides.write", "--tenant", "Zoë").token
    return opened


@pytest.mark.parametrize("format", get_args(Format))
def test_a_bundle_goes_out_a_line_an_audience_and_comes_back(capx: Any, token: str, format: str) -> None:
    said = capx("export", "--format", format, token=token)
    assert said.err == SECRET
    assert [serialized[0] == "{" for serialized in said.out.splitlines()] == [format == "v2json"] * 3
    back = capx("import", token=said.out)
    assert back.token == token
    assert back.err == f"{UNVERIFIED}  at crm: crm.read\n  at slides: slides.write\n"


def test_one_audience_goes_out_alone_as_another_library_reads_it(capx: Any, token: str) -> None:
    out = capx("export", "--audience", "slides", token=token).out.strip()
    macaroon = Macaroon.deserialize(out)
    assert macaroon.location == "slides"
    assert f"capx1_{out}" == token.split(",")[1]
    refused = capx("export", "--audience", "hr", token=token, code=2)
    assert refused.err == "capx: this token is for crm, slides, authority, not for 'hr'. See capx export --help\n"


def test_what_a_format_cannot_hold_does_not_go_out(capx: Any, token: str) -> None:
    third = appended(minted(), ThirdParty(b"vid", b"cid")).text
    said = capx("export", "--format", "v1", token=third, code=2)
    assert said.out == ""
    assert said.err == "capx: v1 cannot hold a third-party caveat without its location: use v2 or v2json\n"
    assert capx("import", token=capx("export", token=third).out).token == third
    assert "is not one of" in capx("export", "--format", "v3", token=token, code=2).err
    presentation = capx("present", "--action", "crm.read", token=token).token
    assert "this is a presentation" in capx("export", token=presentation, code=3).err
