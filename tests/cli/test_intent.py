"""Intents as a shell sees them: written, signed, shown, verified, opened, withdrawn."""

import json
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from capx.authority.authority import Authority
from capx.crypto.agent_key import AgentKey
from capx.intents.intent import Intent, SignedIntent, parse_intent
from capx.intents.principal_key import PrincipalKey
from capx.policy.file import FILE
from capx.tokens.bundle import Bundle
from tests.cli.conftest import Shell
from tests.labs.commands import COMMAND
from tests.labs.terminal import on_terminal
from tests.server.conftest import serving

STATEMENT = "Prepare the QBR — für Acme\n  purpose    refund"
NEW = ("intent", "new", "--principal", "ana", "--purpose", "qbr", "--tenant", "Acme", "--statement", STATEMENT)
POLICY = """
[principal.ana]
key = "{key}"
tenants = ["Acme"]
purposes = ["qbr"]
[principal.kim]
tenants = ["Acme"]
purposes = ["qbr"]
[purpose.qbr]
ttl = "2h"
[[purpose.qbr.grant]]
how = "at_open"
allow = ["crm.accounts.read", "support.tickets.read"]
"""


class Desk:
    """Where Ana works, and the home of an authority that knows her."""

    def __init__(self, home: Shell, folder: Path) -> None:
        self.home = home
        self.folder = folder
        self.key = folder / "ana.key"
        PrincipalKey.generate("ana").save(self.key)
        self.public = PrincipalKey.load(self.key).public
        file = home.home / FILE
        file.touch(0o600)
        file.write_text(POLICY.format(key=self.public))

    def __call__(self, *args: str, **options: Any) -> Any:
        return self.home(*args, **options)

    def document(self, *args: str) -> str:
        return str(self(*NEW, *args).out)

    def signed(self, *args: str, name: str = "qbr.intent") -> Path:
        file = self.folder / name
        file.write_text(self("intent", "sign", "--key-file", str(self.key), token=self.document(*args)).out)
        return file


@pytest.fixture
def desk(home: Shell, tmp_path: Path) -> Desk:
    return Desk(home, tmp_path)


def test_a_document_says_what_was_typed_and_names_the_home(desk: Desk) -> None:
    typed = ("--param", "quarter=Q3", "--param", "limit:=10", "--agent", "writer", "--max-tasks", "3")
    intent = parse_intent(desk.document(*typed, "--not-after", "1d").encode())
    with Authority.open_home(desk.home.home) as authority:
        assert intent.authority == authority.epoch()
    assert (intent.principal, intent.purpose, intent.tenant, intent.agent) == ("ana", "qbr", "Acme", "writer")
    assert intent.statement == STATEMENT
    assert dict(intent.parameters) == {"quarter": "Q3", "limit": 10}
    assert (intent.max_tasks, intent.not_after - intent.issued) == (3, 86_400)
    assert abs(intent.issued - time.time()) < 30
    assert intent.nonce != parse_intent(desk.document().encode()).nonce


def test_a_document_for_elsewhere_needs_no_home(capx: Shell) -> None:
    intent = parse_intent(capx(*NEW, "--for", "OYZ7VqUQJ9PBa0YXjDBPsw.1795500000").out.encode())
    assert intent.authority == "OYZ7VqUQJ9PBa0YXjDBPsw.1795500000"
    assert "capx init" in capx(*NEW, code=3).err
    assert not capx.home.exists()


def test_from_a_persons_words_to_a_token_through_one_pipe(desk: Desk) -> None:
    script = (
        f'{sys.executable} -m capx_cli.main intent new --principal ana --purpose qbr --tenant Acme --statement "$1"'
        f' | {sys.executable} -m capx_cli.main intent sign - --key-file "$2"'
        f" | {sys.executable} -m capx_cli.main task open --intent -"
    )
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script, "bash", STATEMENT, str(desk.key)],
        env=desk.home.env,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    bundle = Bundle.parse(done.stdout.decode().strip())
    assert bundle.audiences == ("crm", "support", "authority")
    assert b"ana asks for this, and signs it:" in done.stderr
    assert b"opened task" in done.stderr


def test_a_signer_sees_all_of_the_intent_on_standard_error(desk: Desk) -> None:
    long = "x" * 300
    document = desk.document("--param", f"ref={long}", "--param", "authority=none", "--agent", "writer")
    said = desk("intent", "sign", "--key-file", str(desk.key), token=document)
    intent = SignedIntent.parse(said.out.encode()).intent
    assert intent == parse_intent(document.encode())
    shown = said.err.splitlines()
    assert shown[0] == "ana asks for this, and signs it:"
    assert shown[1:3] == ["  | Prepare the QBR — für Acme", "  |   purpose    refund"]
    assert f'  with ref = "{long}"' in shown
    assert '  with authority = "none"' in shown
    assert [line for line in shown if line.startswith("  purpose")] == ["  purpose    qbr"]
    assert [line for line in shown if line.startswith("  authority")] == [f"  authority  {intent.authority}"]
    assert f"  digest     {intent.digest}" in shown
    assert desk.key.read_text().split()[-1] not in said.out + said.err


def hostile() -> Intent:
    """An intent that nobody's command has written: with what may stand in one and does not show as itself."""
    return Intent.written(
        principal="a[bold]na",
        authority="OYZ7VqUQJ9PBa0YXjDBPsw.1795600000",
        purpose="qbr",
        statement="[red]Refund[/red] all\u3164\n  tenant     Initech\n" + "a" * 74 + "   tenant     Initech" + "é" * 90,
        tenant="Acme" + "\u2800" * 20 + "   tenant     Initech",
        parameters={"note": "\x1b[2J\u202etxt\r\n  tenant     Initech", "texts": ("[blink]", "\u2066b", 1, None, True)},
        now=1,
    )


def test_ansi_bidi_markup_and_newlines_are_spelt_out(desk: Desk) -> None:
    file = desk.folder / "evil.json"
    file.write_text(json.dumps(hostile().document()))
    said = desk("intent", "show", str(file)).out
    assert all(line.isprintable() for line in said.splitlines())
    assert len(said.splitlines()) == 13
    assert "[red]Refund[/red] all\\u3164" in said
    assert "\\u001b[2J" in said
    assert "\\u202etxt\\r\\n" in said
    fields = [line for line in said.splitlines() if line.startswith("  tenant")]
    assert len(fields) == 1
    assert fields[0].startswith('  tenant     "Acme\\u2800')
    assert desk("intent", "show", str(file), "--json").json["document"] == json.loads(file.read_text())


@pytest.mark.parametrize(
    ("width", "env"),
    [
        *((width, {}) for width in (10, 32, 80, 97)),
        *((width, {"TERM": "dumb"}) for width in (32, 80, 200)),
        (80, {"COLUMNS": "200"}),
        (80, {"COLUMNS": "20"}),
    ],
)
def test_an_intents_text_forges_no_line_on_a_terminal(desk: Desk, width: int, env: dict[str, str]) -> None:
    file = desk.folder / "evil.json"
    file.write_text(json.dumps(hostile().document()))
    drawn = on_terminal(desk.home, "", "intent", "show", str(file), width=width, **env)
    plain = re.sub(rb"\x1b\[[0-9;]*m", b"", drawn).decode()
    assert "\x1b" not in plain
    lines = plain.replace("\r\n", "\n").rstrip("\n").split("\n")
    # Where there is too little room for its name, the field has it behind the margin as well.
    assert len([line for line in lines if line.startswith("  tenant")]) == (width > len("  tenant     "))
    assert all(line.startswith("  ") for line in lines[1:-1])
    assert max(map(len, lines)) <= width


def test_the_name_of_an_asker_forges_no_line(desk: Desk) -> None:
    file = desk.folder / "evil.json"
    said = structs.replace(hostile(), principal="ana" + " " * 77 + "  tenant     Initech").document()
    file.write_text(json.dumps(said))
    drawn = re.sub(rb"\x1b\[[0-9;]*m", b"", on_terminal(desk.home, "", "intent", "show", str(file))).decode()
    assert len([line for line in drawn.split("\r\n") if line.startswith("  tenant")]) == 1


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("-", '"-"'),
        ("Acme ", '"Acme "'),
        (" Acme", '"\\u0020Acme"'),
        ("Acme  Inc", '"Acme \\u0020Inc"'),
        ("Acmé", '"Acmé"'),
        ('"Acme"', '"\\"Acme\\""'),
        ("Acme Inc", "Acme Inc"),
        ("ana@our.example", "ana@our.example"),
    ],
)
def test_a_name_that_could_mean_another_or_none_is_quoted(desk: Desk, name: str, shown: str) -> None:
    file = desk.folder / "evil.json"
    file.write_text(json.dumps(structs.replace(hostile(), principal=name, tenant=name, agent=name).document()))
    lines = desk("intent", "show", str(file)).out.splitlines()
    assert lines[0] == f"{shown} asks for this:"
    assert f"  tenant     {shown}" in lines
    assert f"  agent      {shown}" in lines


def test_the_key_of_its_principal_is_found_at_home(desk: Desk) -> None:
    document = desk.document()
    missing = desk("intent", "sign", token=document, code=3)
    file = desk.home.home / "principals" / "ana.key"
    assert f"there is no key of ana at {file}: name its file with --key-file" in missing.err
    file.parent.mkdir(mode=0o700)
    PrincipalKey.load(desk.key).save(file)
    PrincipalKey.generate("bo").save(file.with_name("bo.key"))
    signed = desk("intent", "sign", token=document).out
    assert signed == desk("intent", "sign", "--key-file", str(desk.key), token=document).out


def test_a_key_signs_only_for_its_own_principal_and_only_once(desk: Desk) -> None:
    other = desk.folder / "bo.key"
    PrincipalKey.generate("bo").save(other)
    said = desk("intent", "sign", "--key-file", str(other), token=desk.document(), code=2)
    assert "this is the key of bo, and ana must sign this intent" in said.err
    assert said.out == ""
    assert "is signed already" in desk("intent", "sign", str(desk.signed()), "--key-file", str(desk.key), code=2).err
    for name, code, says in (("nowhere", 3, "cannot read the key file"), ("qbr.intent", 3, "chmod 600")):
        said = desk("intent", "sign", "--key-file", str(desk.folder / name), token=desk.document(), code=code)
        assert says in said.err


def test_an_intent_is_shown_with_whether_it_is_signed(desk: Desk) -> None:
    file = desk.signed()
    assert desk("intent", "show", str(file)).out.splitlines()[-1].startswith("signed; to verify who signed it")
    found = desk("intent", "show", str(file), "--json").json
    signed = SignedIntent.parse(file.read_bytes())
    assert (found["digest"], found["signature"]) == (signed.intent.digest, signed.signature)
    said = desk("intent", "show", "-", token=desk.document())
    assert said.out.splitlines()[-1] == "not signed"


def test_a_signature_is_verified_against_the_policy_or_a_key(desk: Desk) -> None:
    file = desk.signed()
    digest = SignedIntent.parse(file.read_bytes()).intent.digest
    assert desk("intent", "verify", str(file)).out == f"signed by ana: intent {digest}\n"
    assert desk("intent", "verify", str(file), "--key", desk.public, CAPX_HOME="/nowhere").code == 0
    found = desk("intent", "verify", str(file), "--json").json
    assert (found["signed"], found["why"], found["digest"]) == (True, None, digest)
    other = PrincipalKey.generate("ana").public
    said = desk("intent", "verify", str(file), "--key", other, code=1)
    assert said.out == f"not verified: the key {other} did not sign this\n"
    assert "run it where its home is" in desk("intent", "verify", str(file), code=2, CAPX_AUTHORITY="unix:/x").err


def test_whoever_verifies_is_told_why_a_signature_does_not_count(desk: Desk) -> None:
    file = desk.signed()
    good = json.loads(file.read_text())
    for principal, says in (
        ("ana", "the key that the policy has for ana did not sign this"),
        ("kim", "the policy of the home has no key for kim"),
        ("nobody", "the policy of the home has no principal nobody"),
    ):
        changed = {**good["intent"], "principal": principal, "max_tasks": 9}
        file.write_text(json.dumps({**good, "intent": changed}))
        assert desk("intent", "verify", str(file), code=1).out == f"not verified: {says}\n"
    found = desk("intent", "verify", str(file), "--json", code=1).json
    assert (found["signed"], found["why"]) == (False, says)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("", "this is not the JSON that belongs here"),
        ("nonsense", "this is not the JSON that belongs here"),
        ('{"intent": 7}', "this is not the JSON that belongs here"),
        ('{"signature": "A", "signature": "B"}', "this is not the JSON that belongs here"),
        (" " * 70_000, "at most"),
        ("[" * 5_000, "this is not the JSON that belongs here"),
    ],
)
def test_a_file_that_holds_no_intent_is_one_line(desk: Desk, data: str, says: str) -> None:
    file = desk.folder / "what"
    file.write_text(data)
    for args in (("intent", "show"), ("intent", "verify"), ("intent", "withdraw"), ("task", "open", "--intent")):
        said = desk(*args, str(file), code=2)
        assert says in said.err
        assert said.err.startswith(f"capx: {file}: ")
        assert said.err.count("\n") == 1
    assert "cannot read" in desk("intent", "show", str(desk.folder / "nowhere"), code=3).err


def test_a_task_opens_on_a_signed_intent_as_often_as_it_says(desk: Desk) -> None:
    file = desk.signed()
    opened = desk("task", "open", "--intent", str(file), "--expires", "5m")
    digest = SignedIntent.parse(file.read_bytes()).intent.digest
    assert f" for ana, on intent {digest}\n" in opened.err
    assert "at crm: crm.accounts.read" in opened.err
    (shown,) = desk("task", "list", "--json").json
    assert (shown["principal"], shown["intent"], shown["purpose"]) == ("ana", digest, "qbr")
    assert f"  for      ana, on intent {digest}\n" in desk("task", "show", "last").out
    again = desk("task", "open", "--intent", str(file), code=1)
    assert "was opened once" in again.err
    assert again.out == ""


@pytest.mark.parametrize("on_an_intent", [True, False])
@pytest.mark.parametrize(("output", "code"), [("full", 3), ("closed", 141)])
def test_a_task_whose_token_nobody_gets_is_withdrawn(desk: Desk, output: str, code: int, *, on_an_intent: bool) -> None:
    what = ("--intent", str(desk.signed())) if on_an_intent else ("--allow", "crm.read")
    if output == "full":
        stdout = os.open("/dev/full", os.O_WRONLY)
    else:
        unread, stdout = os.pipe()
        os.close(unread)
    try:
        done = subprocess.run(
            (*COMMAND, "task", "open", *what),
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=desk.home.env,
            text=True,
            check=False,
        )
    finally:
        os.close(stdout)
    (task,) = desk("task", "list", "--json").json
    assert (done.returncode, task["state"]) == (code, "withdrawn")
    assert f"the token cannot be written: task {task['id']} was withdrawn" in done.stderr
    assert ("; its intent counts as opened\n" in done.stderr) == on_an_intent
    assert "opened task" not in done.stderr


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("--allow", "hr.read"), 2, "with --intent, leave out --purpose, --tenant and --allow"),
        (("--tenant", "Acme"), 2, "with --intent, leave out --purpose, --tenant and --allow"),
        (("--purpose", "refund"), 2, "with --intent, leave out --purpose, --tenant and --allow"),
        (("--expires", "3h"), 1, "at the latest"),
        (("--attested", "the login"), 2, "leave out --attested"),
    ],
)
def test_whoever_opens_only_narrows(desk: Desk, args: tuple[str, ...], code: int, says: str) -> None:
    said = desk("task", "open", "--intent", str(desk.signed()), *args, code=code)
    assert says in said.err
    assert desk("task", "list", "--json").json == []


def test_an_unsigned_intent_is_refused_unless_it_is_attested(desk: Desk) -> None:
    file = desk.folder / "qbr.json"
    file.write_text(desk.document())
    assert (
        "is not signed: sign it with capx intent sign, or name who"
        in desk("task", "open", "--intent", str(file), code=2).err
    )
    assert "is not signed" in desk("intent", "verify", str(file), code=2).err
    desk("task", "open", "--intent", str(file), "--attested", "the login of our.example")
    assert desk("intent", "list", "--json").json[0]["proof"] == "attested: the login of our.example"
    assert "--attested needs --intent" in desk("task", "open", "--allow", "a", "--attested", "x", code=2).err


def test_intents_are_listed_with_what_became_of_them(desk: Desk) -> None:
    assert "capx task open --intent FILE" in desk("intent", "list").out
    assert desk("intent", "list", "--json").json == []
    once, twice, gone = desk.signed(name="a"), desk.signed("--max-tasks", "2", name="b"), desk.signed(name="c")
    for file in (once, twice):
        desk("task", "open", "--intent", str(file))
    desk("intent", "withdraw", str(gone))
    found = desk("intent", "list", "--json").json
    assert [(each["state"], each["tasks"]) for each in found] == [("used up", 1), ("open", 1), ("withdrawn", 0)]
    assert found[0]["document"] == json.loads(once.read_text())["intent"]
    assert (found[2]["document"], found[2]["proof"]) == (None, None)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found[2]["withdrawn"])
    rows = desk("intent", "list").out.splitlines()[1:]
    assert [row.split()[1:] for row in rows] == [
        ["used", "up", "ana", "qbr", "Acme", "1", "of", "1"],
        ["open", "ana", "qbr", "Acme", "1", "of", "2"],
        ["withdrawn", "-", "-", "-", "0"],
    ]


def test_an_intent_is_withdrawn_with_its_tasks_by_digest_or_file(desk: Desk) -> None:
    file = desk.signed("--max-tasks", "2")
    digest = SignedIntent.parse(file.read_bytes()).intent.digest
    desk("task", "open", "--intent", str(file))
    task = desk("task", "list", "--json").json[0]["id"]
    tried = desk("intent", "withdraw", digest, "--dry-run").out
    assert f"intent {digest} would be withdrawn\n  task {task} would be withdrawn\n" in tried
    assert "and everything below, seen or not" in tried
    assert desk("task", "list", "--active", "--json").json != []
    said = desk("intent", "withdraw", str(file)).out
    assert f"intent {digest} is withdrawn, at position" in said
    assert f"task {task} is withdrawn, at position" in said
    assert desk("task", "list", "--active", "--json").json == []
    assert "this intent was withdrawn at" in desk("task", "open", "--intent", str(file), code=1).err
    assert f"intent {digest} was withdrawn before, at " in desk("intent", "withdraw", digest).out
    again = desk("intent", "withdraw", digest, "--json").json
    assert (again["again"], again["tasks"], again["position"]) == (True, [], None)
    assert "cannot read nonsense" in desk("intent", "withdraw", "nonsense", code=3).err


def test_a_digest_that_begins_with_a_dash_is_no_option(desk: Desk) -> None:
    digest = f"-{'A' * 42}"
    assert f"intent {digest} is withdrawn" in desk("intent", "withdraw", digest).out


def test_the_tasks_of_a_principal_are_revoked(desk: Desk) -> None:
    desk("task", "open", "--intent", str(desk.signed()))
    desk("task", "open", "--allow", "crm.read")
    assert "would be revoked" in desk("revoke", "--where", "principal=ana", "--dry-run").out
    assert desk("revoke", "--where", "principal=ana").out.count("is revoked") == 1
    assert "nothing alive matches" in desk("revoke", "--where", "principal=ana", code=1).out
    assert "principal=ana" in desk("revoke", "--where", "principal", code=2).err


def test_all_of_it_works_with_an_authority_that_is_served(desk: Desk, tmp_path: Path) -> None:
    with serving(desk.home.home) as served:
        elsewhere = {"CAPX_AUTHORITY": served.place, "CAPX_HOME": str(tmp_path / "nowhere")}
        document = desk(*NEW, "--max-tasks", "2", **elsewhere).out
        file = tmp_path / "qbr.intent"
        file.write_text(desk("intent", "sign", "-", "--key-file", str(desk.key), token=document, **elsewhere).out)
        opened = desk("task", "open", "--intent", str(file), **elsewhere)
        assert Bundle.parse(opened.token).audiences == ("crm", "support", "authority")
        attested = tmp_path / "qbr.json"
        attested.write_text(document)
        desk("task", "open", "--intent", str(attested), "--attested", "the login", **elsewhere)
        assert "was opened 2 times" in desk("task", "open", "--intent", str(file), code=1, **elsewhere).err
        (found,) = desk("intent", "list", "--json", **elsewhere).json
        assert (found["state"], found["tasks"]) == ("used up", 2)
        assert len(desk("intent", "withdraw", str(file), "--json", **elsewhere).json["tasks"]) == 2
        assert desk("task", "list", "--active", "--json", **elsewhere).json == []
    assert not (tmp_path / "nowhere").exists()


def test_nothing_of_a_key_shows_wherever_it_is_named_by_mistake(desk: Desk) -> None:
    secret = desk.key.read_text().split()[-1]
    for args in (
        ("intent", "show", str(desk.key)),
        ("intent", "verify", str(desk.key)),
        ("intent", "withdraw", str(desk.key)),
        ("task", "open", "--intent", str(desk.key)),
    ):
        said = desk(*args, code=2)
        assert secret[:8] not in said.out + said.err
    held = desk.folder / "root.keys"
    held.write_bytes((desk.home.home / "root.keys").read_bytes())
    held.chmod(0o600)
    said = desk("intent", "sign", "--key-file", str(held), token=desk.document(), code=3)
    assert "line 1: wanted `principal NAME SEED`" in said.err
    assert held.read_text().split()[-1][:8] not in said.err


def test_a_terminal_is_not_waited_for(desk: Desk) -> None:
    main, sub = pty.openpty()
    command = (*COMMAND, "intent", "sign", "--key-file", str(desk.key))
    done = subprocess.run(command, env=desk.home.env, stdin=sub, capture_output=True, timeout=30, check=False)
    os.close(sub)
    os.close(main)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"name a FILE with an intent, or pipe one in" in done.stderr


def test_who_may_act_is_signed_shown_and_not_to_be_changed(desk: Desk) -> None:
    """An operator who opens the intent for a key of their own is refused, and holds nothing that they can use."""
    key, own = AgentKey.generate("writer").public, AgentKey.generate("operator").public
    file = desk.signed("--agent-key", key)
    assert f"\n  agent key  {key}\n" in desk("intent", "show", str(file)).out
    assert desk("intent", "show", str(file), "--json").json["document"]["agent_key"] == key
    refused = desk("task", "open", "--intent", str(file), "--agent-key", own, code=1)
    assert (refused.out, key in refused.err) == ("", True)
    opened = desk("task", "open", "--intent", str(file))
    assert Bundle.parse(opened.token).holder == key
    assert "is bound to the key" in desk("present", "--action", "crm.accounts.read", token=opened.token, code=3).err
    assert "is not a public key" in desk(*NEW, "--agent-key", "writer", code=2).err
