"""The help of every command has an example, and every example does what it says; every command stands in a page.

Each example but that of the demo starts an interpreter of its own: it shows that its command needs nothing that another
one has imported.
"""

import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from typing import Any

import click
import pytest

from capx.authority.authority import Authority
from capx.ledger.ledger_file import LedgerFile
from capx.ledger.note import NoteKey
from capx.ledger.note_keys import LedgerKey
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx_caveats import Call
from tests.cli.test_main import commands as all_commands
from tests.labs.commands import plain_environment, served_commands, warm_capx
from tests.labs.mcp_home import CHILD
from tests.labs.serving import served
from tests.labs.witnesses import Witness
from tests.project.test_docs import PAGES, blocks
from tests.project.test_docs import commands as typed

EXAMPLE = re.compile(r"^Example: (?P<typed>.+)$", re.MULTILINE)
COMMANDS = dict(all_commands())
OWN_COMMANDS = Path(sys.executable).parent
"""Where each command has an interpreter of its own."""
SERVICE = "https://crm.internal"
"""What the examples call the service."""

_MCP = f"""
umask 077
export CAPX_HOME=home
capx init
cp {CHILD[1]} files_server.py
capx keys export files > files.keys
capx mcp map --audience files --out files.toml -- python files_server.py
"""
BEFORE = (
    _MCP
    + """
capx principal new lea --key-file lea.key > lea.public
capx task open --tenant Acme --allow billing.credit > credit.token
capx delegate --to clerk --approval-by "$(cat lea.public)" --token-file credit.token > clerk.token
capx approval ask --action billing.credit --arg amount:=40 --token-file clerk.token > call.ask
capx requests approve --file call.ask --key-file lea.key --yes > call.approval
capx task open --tenant Acme --allow crm.read --allow crm.accounts.read --allow slides.write --allow partner.quote \
    > task.token
capx delegate --to slides-agent --audience slides --allow slides.write --with deck=deck-42 \
    --token-file task.token > slides.token
capx agent-key new slides-agent --out slides.key
capx seal --to "$(capx agent-key show slides.key)" --token-file slides.token > slides.sealed
capx export --token-file slides.token > slides.macaroon
capx store backup before.db
cat > home/policy.toml <<'TOML'
[audience]
crm = "https://crm.internal"
slides = "https://slides.internal"
warehouse = "https://warehouse.internal"
partner = "https://partner.example"
[statement]
partner = "60s"
[purpose.qbr]
ttl = "2h"
[[purpose.qbr.grant]]
how = "at_open"
allow = ["crm.accounts.read"]
TOML
capx principal add lea --key "$(cat lea.public)" --group leads
capx principal add ana --key "$(capx principal new ana --key-file ana.key)" --tenant Acme --purpose qbr
cat >> home/policy.toml <<'TOML'
[[purpose.qbr.grant]]
how = "on_request"
allow = ["warehouse.stock.read"]
[[purpose.qbr.grant]]
how = "ask"
approvers = ["leads"]
allow = ["slides.publish"]
TOML
capx intent new --principal ana --purpose qbr --statement "The Acme QBR" --tenant Acme > qbr.json
capx intent sign qbr.json --key-file ana.key > qbr.intent
capx intent new --principal ana --purpose qbr --statement "Another one" --tenant Acme > another.json
capx intent sign another.json --key-file ana.key > another.intent
capx task open --intent another.intent > another.token
capx ask slides.publish --with deck=d --token-file another.token || test $? = 1
cp home/policy.toml draft.toml
mkdir archive
capx witness new witness.example --key-file w.key --state w.state > witness.vkey
capx checkpoint make > monday.note
capx checkpoint key > log.vkey
for service in crm slides; do
    capx ledger new-key $service --key-file $service-ledger.key > $service-ledger.vkey
done
cat > hooks.toml <<'TOML'
[hook.desk]
command = ["/bin/true"]
TOML
cat > cases.toml <<'TOML'
[[case]]
principal = "ana"
purpose = "qbr"
tenant = "Acme"
at_open = ["crm.accounts.read"]
TOML
"""
)
"""What whoever types an example has done before."""

AFTERWARDS = """
export CAPX_HOME=home
capx proof export last --out qbr.proof
capx proof trust > trust.keys
for service in crm slides; do
    echo "log $(cat $service-ledger.vkey)" >> trust.keys
    capx proof extract "$1" $service.jsonl --key-file $service-ledger.key --out $service.part
done
capx proof merge qbr.proof crm.part slides.part --out qbr.proof --replace
capx proof export last --out plain.proof
cp w.state before.state
capx checkpoint request | capx witness cosign --key-file w.key --state w.state --log "$(cat log.vkey)" > line
mv before.state w.state
"""
"""What they have done when there were ledgers."""

GIVEN = """
umask 077
export CAPX_HOME=home CAPX_TOKEN_FILE=task.token
case $1 in
    *slides.write*) export CAPX_TOKEN_FILE=slides.token;;
    *'"$kid"'*) kid=$(capx keys add);;
    *"principal new ana"*) rm ana.key;;
    *'"$old"'*) old=$(capx keys add);;
    *'"$request"'*) request=$(capx requests list | awk 'NR == 2 { print $1 }');;
    *"capx approval"*) export CAPX_TOKEN_FILE=clerk.token;;
    *"mcp guard"*) export CAPX_KEY_FILE=files.keys CAPX_STORE=home/capx.db;;
    *"capx ask"*) export CAPX_TOKEN_FILE=another.token;;
    *"witness new"*) rm w.key w.state;;
    *"ledger new-key"*) rm crm-ledger.key;;
    *"proof merge"*) mv plain.proof qbr.proof;;
    *monday.db*--dry-run) mv before.db monday.db;;
esac
eval "$1"
"""
"""In what shell an example is typed: `$kid` and `$old` are keys that were added, `$request` waits for an answer."""


def example(command: click.Command) -> str:
    (found,) = EXAMPLE.findall(cleandoc(command.help or ""))
    return str(found)


def shell(script: str, *args: str, folder: Path, commands: Path) -> "subprocess.CompletedProcess[str]":
    """Type a script into a shell; `capx` is the one in the folder `commands`."""
    path = os.pathsep.join([str(commands), str(OWN_COMMANDS), os.environ["PATH"]])
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-o", "pipefail", "-c", script, "bash", *args],
        env={**plain_environment(), "PATH": path, "HOME": str(folder)},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a home, tokens, and a denial in the log."""
    folder = tmp_path_factory.mktemp("prepared")
    assert shell(BEFORE, folder=folder, commands=served_commands()).returncode == 0
    bundle = Bundle.parse((folder / "task.token").read_text().strip())
    with Authority.open_home(folder / "home") as authority:
        received = ToolCall("crm.write")
        shown = bundle.present("crm", received).text
        assert not authority.verifier("crm").decide(shown, received, Call("crm.write", tenant="Acme")).allowed
        last = authority.task_page(limit=1)[-1].id
    for service in ("crm", "slides"):
        LedgerFile(folder / f"{service}.jsonl", LedgerKey.load(folder / f"{service}-ledger.key")).close()
    done = shell(AFTERWARDS, last, folder=folder, commands=served_commands())
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    """A service that answers everybody."""

    async def answering(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"answered"})

    with served(answering, lifespan="off") as origin:
        yield origin


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_of_a_command_does_what_it_says(name: str, prepared: Path, service: str, tmp_path: Path) -> None:
    text = example(COMMANDS[name])
    assert re.search(rf"\bcapx {name}\b", text) or isinstance(COMMANDS[name], click.Group)
    folder = tmp_path / "here"
    shutil.copytree(prepared, folder)
    witness: Witness | None = None
    if name == "checkpoint send":
        key = NoteKey.parse((folder / "log.vkey").read_text().strip())
        witness = Witness(tmp_path, [key])
        (folder / "witness.vkey").write_text(witness.key.note_key.text())
        text = text.replace("https://witness.example", witness.url)
    if name in {"serve", "requests watch", "ledger tail"}:
        # It goes on until somebody ends it, in order and once, and on a port that nobody has.
        text = f"timeout --foreground --signal=INT --preserve-status 5 {text.replace(':8411', ':0')}"
    if name == "demo":
        # Its processes are forked; tests/cli/test_demo.py starts interpreters for them.
        text = text.replace("capx demo", shlex.join([*warm_capx(), "demo"]))
    try:
        done = shell(GIVEN, text.replace(SERVICE, service), folder=folder, commands=OWN_COMMANDS)
    finally:
        if witness is not None:
            witness.close()
    assert done.returncode == 0, (text, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr


@functools.cache
def transcripts() -> str:
    lines = [command.text for page in PAGES for block in blocks(page, "console") for command in typed(block)]
    return "\n".join(lines)


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if not isinstance(command, click.Group)])
def test_every_command_stands_in_a_transcript(name: str) -> None:
    assert re.search(rf"\bcapx {name}(?![\w-])", transcripts())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_what_it_takes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = COMMANDS[name]
    said = " ".join(command.get_help(click.Context(command, info_name=f"capx {name}")).split())
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            # What stands without a name is spoken of by its metavar.
            shown = parameter.make_metavar(click.Context(command)).strip("[]").split("|")[0]
            assert said.count(shown.upper()) + said.count(shown) > 1, (name, shown)
        elif parameter.name in {"args", "attributes"}:
            assert "is JSON" in said, name
