"""A statement at the command line: a JWT on standard output, or in a private file."""

from pathlib import Path

import pytest

from tests.cli.conftest import Shell
from tests.labs.stating import POLICY, Partner


@pytest.fixture
def stating(home: Shell) -> Shell:
    policy = home.home / "policy.toml"
    policy.write_text(POLICY)
    policy.chmod(0o600)
    return home


def test_a_partner_takes_what_is_stated(stating: Shell, tmp_path: Path) -> None:
    token = stating("task", "open", "--allow", "partner.quote", "--tenant", "Acme").token
    said = stating("statement", "--action", "partner.quote", "--arg", "sku=A-7", token=token)
    assert "partner.quote at partner is permitted until 20" in said.err
    epoch = stating("checkpoint", "key").out.split("+")[0]
    partner = Partner(stating("keys", "jwks").json, epoch)
    assert partner.take(said.out.strip(), "partner.quote", {"sku": "A-7"})["tenant"] == "Acme"
    out = tmp_path / "s.jwt"
    kept = stating("statement", "--action", "partner.quote", "--out", str(out), "--json", token=token)
    assert kept.json["claims"]["action"] == "partner.quote"
    assert out.stat().st_mode & 0o077 == 0
    partner.take(out.read_text().strip(), "partner.quote", {})


def test_what_is_denied_is_stated_to_nobody(stating: Shell) -> None:
    token = stating("task", "open", "--allow", "partner.quote", "--allow", "crm.read").token
    said = stating("statement", "--action", "partner.buy", token=token, code=1)
    assert said.out == ""
    assert "denied: the task's grant allows only partner.quote" in said.err
    assert "there are no statements for 'crm'" in stating("statement", "--action", "crm.read", token=token, code=2).err
    assert "--action" in stating("statement", token=token, code=2).err
    assert "its key is never exported" in stating("keys", "export", "partner", code=2).err
