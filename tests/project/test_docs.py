"""README and docs say what is so: their code runs, transcripts are what a terminal shows, links lead somewhere."""

import contextlib
import functools
import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from msgspec import Struct

from capx.store.lifecycle import diagram
from capx_cli.main import COMMANDS
from tests.labs.commands import NEW_SECOND, served_commands, warm_capx
from tests.labs.postgres import Server, binaries

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(?P<language>\S*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+ (?P<title>.+)$", re.MULTILINE)
PRINTED = re.compile(r"^ *print\(.*\)  +# (?P<output>.+)$", re.MULTILINE)
PRINTED_BELOW = re.compile(r"^# (?P<output>.+)\n(?=(?:# .+\n)*\Z)", re.MULTILINE)
RAISED = re.compile(r"  +# (?P<error>[A-Z]\w+): (?P<message>.+)$")
HERE = re.compile(r"<<'(?P<end>\w+)'")
HOME = "/home/ana"
"""What the transcripts call the home folder of whoever types."""
PORTS = ("8000", "8001", "8443")
"""The ports at which the transcripts serve; the tests take free ones."""
DEMO = re.compile(r"\bcapx demo\b")
DATABASE = re.compile(r"postgresql://(?P<role>\w+)@db\.internal/(?P<name>\w+)")
"""The URLs of databases in the transcripts; the tests start a server, over whose socket every role is let in."""
MASKS = [
    (re.compile(r"(?<=[\w-]{22}\.)\d{10}\b"), "SECONDS"),
    (re.compile(r"\b\d{8}T\d{6}Z"), "STAMP"),
    (re.compile(r"/tmp/tmp\.\w{10}\b"), "FOLDER"),
    (re.compile(r"\bcapx1_[\w-]+"), "TOKEN"),
    (re.compile(r"(?<![\w-])(?=[\w-]*[A-Z\d])[\w-]{43}(?![\w-])"), "HASH"),
    (re.compile(r"(?<![\w-])(?=[\w-]*[A-Z\d])[\w-]{86}(?![\w-])"), "SIGNATURE"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "INSTANT"),
    (re.compile(r"\b\d+ (s|min|h)\b"), "SOON"),
    (re.compile(r"(?<![\w-])(?=[\w-]*[A-Z\d])[\w-]{22}(?![\w-])"), "ID"),
    (re.compile(r"(?<![\w-])(?=[\w-]*[A-Z\d])[\w-]{11}(?![\w-])"), "KID"),
]


class Block(Struct, frozen=True):
    """A fenced block of a page; `line` is that of its first line."""

    page: Path
    line: int
    language: str
    text: str


def blocks(page: Path, language: str) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, found.start("text")) + 1, language, found["text"])
        for found in FENCE.finditer(text)
        if found["language"] == language
    ]


def names(page: Path) -> str:
    return str(page.relative_to(CHECKOUT))


def with_blocks(language: str) -> list[Path]:
    return [page for page in PAGES if blocks(page, language)]


@pytest.fixture(autouse=True)
def nobodys_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty HOME and working folder, no setting of whoever runs the tests, and none left by a page."""
    # Not pytest's, whose path may be too long for a socket in it.
    with tempfile.TemporaryDirectory(prefix="docs-") as folder:
        yield from _nobodys(Path(folder), monkeypatch)


def _nobodys(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in settings():
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder)
    yield folder
    for name in settings():
        del os.environ[name]
    # Left before it goes.
    monkeypatch.undo()


def settings() -> list[str]:
    return [name for name in os.environ if name.startswith("CAPX_")]


@pytest.mark.parametrize("page", with_blocks("python"), ids=names)
def test_the_python_of_a_page_does_what_the_page_says(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, Any] = {"__name__": names(page)}
    for block in blocks(page, "python"):
        # The page's own line numbers, for whoever reads a traceback.
        code = compile("\n" * (block.line - 1) + block.text, str(page), "exec", dont_inherit=True)
        expected = RAISED.search(block.text.rstrip("\n"))
        if expected is None:
            exec(code, namespace)
        else:
            with pytest.raises(Exception, match=f"^{re.escape(expected['message'])}$") as caught:
                exec(code, namespace)
            assert type(caught.value).__name__ == expected["error"]
        assert capsys.readouterr().out.splitlines() == outputs(block.text), f"{names(page)}, line {block.line}"


def outputs(text: str) -> list[str]:
    """What a block says that it prints: in comments beside its calls of print, and at its end."""
    return [found["output"].rstrip() for shape in (PRINTED, PRINTED_BELOW) for found in shape.finditer(text)]


def test_the_example_of_the_readme_can_be_typed_at_a_prompt() -> None:
    (example,) = blocks(CHECKOUT / "README.md", "python")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-i", "-q"],
        input=f"{example.text}\n",
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    raised = RAISED.search(example.text.rstrip("\n"))
    assert raised is not None
    *_, last = (line for line in done.stderr.splitlines() if line.strip(">. "))
    assert last == f"capx.verify.decision.{raised['error']}: {raised['message']}"
    assert "SyntaxError" not in done.stderr


class Command(Struct, frozen=True):
    """A command of a transcript with its prompt, and what the terminal is said to show."""

    typed: str
    shown: str

    @property
    def text(self) -> str:
        """The command without its prompt: other lines have none, so that they can be pasted."""
        return self.typed.removeprefix("$ ").rstrip("\n")

    @property
    def goes_on(self) -> bool:
        """Whether its last line so far is not the end of it: a backslash, or a here-document that is open."""
        here = HERE.search(self.typed)
        return self.typed.endswith("\\\n") or (here is not None and f"\n{here['end']}\n" not in self.typed)


def commands(block: Block) -> Iterator[Command]:
    typed, shown = "", ""
    for line in block.text.splitlines(keepends=True):
        if Command(typed, shown).goes_on:
            typed += line
        elif line.startswith("$ "):
            if typed:
                yield Command(typed, shown)
            typed, shown = line, ""
        else:
            shown += line
    yield Command(typed, shown)


def typed(asked: Iterable[Command], home: Path, server: Server | None = None) -> list[str]:
    """What a terminal shows for each command, all typed into one shell; databases are those of the server."""
    end, ports = "=== end of command ===", dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    script = "trap 'kill $(jobs -p) 2> /dev/null' EXIT\n"
    for command in asked:
        # Its two dozen processes are forked.
        text = DEMO.sub(lambda _: shlex.join([*warm_capx(), "demo"]), command.text)
        if "capx store restore" in text:
            script += f"{NEW_SECOND}\n"
        for port, free in ports.items():
            text = text.replace(port, free)
        if server is not None:
            text = DATABASE.sub(lambda url: shlex.quote(server.url(url["name"], url["role"])), text)
        script += f"{text}\nlast=$?; echo '{end}'; (exit $last)\n"
    folder = [str(binaries())] if server is not None else []
    path = os.pathsep.join([str(served_commands()), str(Path(sys.executable).parent), os.environ["PATH"], *folder])
    kept = {name: value for name, value in os.environ.items() if name.startswith("COV")}
    folders = home / "tmp"
    folders.mkdir()
    # A file, so that commands do not read the rest of the script from standard input.
    (home / ".typed").write_text(script, encoding="utf-8")
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", str(home / ".typed")],
        stdin=subprocess.DEVNULL,
        env={
            **kept,
            "HOME": str(home),
            "TMPDIR": str(folders),
            "PATH": path,
            "LC_ALL": "C.UTF-8",
            "COLUMNS": "100",
        },
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    shown = done.stdout.replace(str(folders), "/tmp").replace(str(home), HOME)
    if server is not None:
        there = rf"postgresql://(\w+)@/(\w+)\?host={server.folder}&port={server.port}"
        shown = re.sub(there, r"postgresql://\1@db.internal/\2", shown)
    for port, free in ports.items():
        shown = shown.replace(f":{free}", f":{port}")
    return shown.split(f"{end}\n")[:-1]


def free_ports(number: int) -> list[str]:
    with contextlib.ExitStack() as kept:
        # All of them at once, so that no two are the same.
        listening = [kept.enter_context(socket.socket()) for _ in range(number)]
        for one in listening:
            one.bind(("127.0.0.1", 0))
        return [str(one.getsockname()[1]) for one in listening]


def masked(text: str) -> str:
    for pattern, name in MASKS:
        text = pattern.sub(name, text)
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


@pytest.mark.parametrize("page", with_blocks("console"), ids=names)
def test_the_transcripts_of_a_page_are_what_a_terminal_shows(page: Path, nobodys_machine: Path) -> None:
    """To write them anew: REWRITE_TRANSCRIPTS=1 python -m pytest tests/project/test_docs.py."""
    found = blocks(page, "console")
    # All blocks of a page are one session.
    with contextlib.ExitStack() as kept:
        # A server of its own: roles, which the page makes, are those of a whole server.
        server = kept.enter_context(Server()) if any(map(DATABASE.search, texts(found))) else None
        answers = iter(typed([command for block in found for command in commands(block)], nobodys_machine, server))
    # A page keeps its secrets in a folder of its own, not in the folder where its reader stands.
    assert {path.name for path in nobodys_machine.iterdir()} <= {".typed", "tmp"}
    for block in found:
        wanted = [(command.text, masked(command.shown)) for command in commands(block)]
        shown = list(islice(answers, len(wanted)))
        got = [(command.text, masked(text)) for command, text in zip(commands(block), shown, strict=True)]
        if got != wanted and "REWRITE_TRANSCRIPTS" in os.environ:
            rewrite(block, shown)
        else:
            assert got == wanted, f"{names(page)}, line {block.line}"


def texts(found: list[Block]) -> list[str]:
    return [block.text for block in found]


def rewrite(block: Block, shown: list[str]) -> None:
    """Put what a terminal shows into the page."""
    lines: list[str] = []
    for command, text in zip(commands(block), shown, strict=True):
        lines += [command.typed.rstrip("\n"), *(line.rstrip() for line in text.rstrip("\n").splitlines())]
    text = block.page.read_text(encoding="utf-8")
    block.page.write_text(text.replace(block.text, "\n".join([*lines, ""]), 1), encoding="utf-8")


@functools.cache
def anchors(page: Path) -> set[str]:
    """What a link may lead to within a page."""
    titles = HEADING.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [*PAGES, CHECKOUT / "CHANGELOG.md"], ids=names)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for found in LINK.finditer(FENCE.sub("", page.read_text(encoding="utf-8"))):
        target, _, fragment = found["target"].partition("#")
        if target.startswith("https://"):
            continue
        linked = (page.parent / target).resolve() if target else page
        assert linked.is_relative_to(CHECKOUT), target
        assert linked.exists(), target
        if fragment:
            assert fragment in anchors(linked), found["target"]


def test_every_page_is_linked_from_the_index() -> None:
    docs = CHECKOUT / "docs"
    linked = {docs / "README.md"}
    for index in (docs / "README.md", *docs.glob("*/README.md")):
        linked |= {(index.parent / found["target"]).resolve() for found in LINK.finditer(index.read_text("utf-8"))}
    assert set(docs.rglob("*.md")) <= linked


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_line_page_speaks_of(command: str) -> None:
    page = (CHECKOUT / "docs" / "command-line.md").read_text(encoding="utf-8")
    assert re.search(rf"(`|\$ capx |`capx ){command}\b", page)


def test_no_fenced_block_escapes_the_tests() -> None:
    # Text is drawings, mermaid the generated diagram, toml and sh would be neither run nor compared.
    for page in PAGES:
        # Signatures, which are no programs: the generator of the reference writes them as py.
        signatures = {"py"} if page.parent.name == "reference" else set[str]()
        languages = {found["language"] for found in FENCE.finditer(page.read_text("utf-8"))}
        assert languages <= {"python", "console", "text", "mermaid", *signatures}, names(page)


def test_a_page_that_sets_variables_asks_for_a_new_shell() -> None:
    sets = re.compile(r"^\$ .*\bexport [A-Z]", re.MULTILINE)
    pages = [page for page in PAGES if any(map(sets.search, texts(blocks(page, "console"))))]
    assert len(pages) > 6
    for page in pages:
        assert re.search(r"new\s+shell", page.read_text(encoding="utf-8")), names(page)


def test_the_readme_is_short_and_shows_two_refusals() -> None:
    readme = PAGES[0]
    assert len(readme.read_text(encoding="utf-8").splitlines()) < 120
    assert any(RAISED.search(block.text.rstrip("\n")) for block in blocks(readme, "python"))
    assert any("denied" in block.text.lower() for block in blocks(readme, "console"))


def constants(of: object) -> Iterator[str]:
    """The texts that compiled code has."""
    if isinstance(of, CodeType):
        of = of.co_consts
    if isinstance(of, str):
        yield of
    elif isinstance(of, tuple | frozenset):
        for one in of:
            yield from constants(one)


def test_the_failures_an_operator_reads_are_those_the_code_tells() -> None:
    page = (CHECKOUT / "docs" / "reference" / "failures.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| `(.+?)` \|", page, re.MULTILINE)
    assert len(told) > 30
    code = [*(CHECKOUT / "capx").rglob("*.py"), *(CHECKOUT / "cli").rglob("*.py")]
    said = [text for path in code for text in constants(compile(path.read_text("utf-8"), path, "exec"))]
    for sentence in told:
        # What differs stands as an ellipsis, and the code's own text around it.
        for part in filter(None, map(str.strip, sentence.split("…"))):
            assert any(part in text for text in said), (sentence, part)


def test_what_the_architecture_names_stands_in_its_file() -> None:
    page = (CHECKOUT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:capx|cli|caveats)/[\w/]+\.py)`(?: \(((?:`[\w.]+`(?:, )?)+)\))?", page)
    assert len(named) > 50
    for path, names in named:
        assert (CHECKOUT / path).is_file(), path
        code = (CHECKOUT / path).read_text(encoding="utf-8")
        for name in re.findall(r"`([\w.]+)`", names):
            assert re.search(rf"\b(def|class) {name.rpartition('.')[2]}\b", code), (path, name)


def test_each_attack_of_a_compromised_agent_is_refused() -> None:
    rows: list[int] = []
    for page in (CHECKOUT / "docs" / "compromised-agent.md", CHECKOUT / "docs" / "reference" / "attacks.md"):
        listed = re.findall(r"^\| (\d+) \|.*\| `(\w+)` \|$", page.read_text(encoding="utf-8"), re.MULTILINE)
        printed = [line for block in blocks(page, "python") for line in outputs(block.text)]
        assert [f"{row} {code}" for row, code in listed] == [line for line in printed if re.fullmatch(r"\d+ \w+", line)]
        rows += [int(row) for row, _ in listed]
    assert rows == list(range(1, 22))


def test_the_state_diagram_is_the_one_of_the_table() -> None:
    text = (CHECKOUT / "docs" / "concepts.md").read_text(encoding="utf-8")
    begin, end = "<!-- generated by capx.store.lifecycle.diagram() -->\n", "<!-- end of what is generated -->\n"
    _, _, rest = text.partition(begin)
    assert rest.partition(end)[0] == f"```mermaid\n{diagram()}\n```\n"
