"""Run the session of `session.sh` and collect what the files beside this one hold.

Laws: it runs commands and speaks HTTP, and imports nothing of capx but its public names, so that the same capture runs
before and after a change of the insides. Each id, key and time becomes a placeholder; the same id gets the same one.
"""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.golden import openapi
from tests.labs.commands import NEW_SECOND, served_commands

HERE = Path(__file__).parent
CHECKOUT = HERE.parent.parent
SOURCES = ("capx", "cli", "caveats")
MASKS = (
    ("TOKEN", re.compile(r"\b(?:capx1_|AgED)[\w-]+")),
    ("SIGNATURE", re.compile(r"(?<![\w-])[\w-]{86}(?![\w-])")),
    ("HASH", re.compile(r"(?<![\w-])[\w-]{43}(?![\w-])")),
    ("DIGEST", re.compile(r'(?<="args_digest":")[\w-]{16}(?=")|(?<="args_digest": ")[\w-]{16}(?=")')),
    ("EPOCH", re.compile(r"(?<![\w-])(?=[\w-]*[A-Z\d])[\w-]{22}\.\d{10}\b")),
    # In DOT, one stands behind the two characters of a line's end.
    ("ID", re.compile(r"(?:(?<![\w-])|(?<=\\n))(?=[\w-]*[A-Z\d])[\w-]{22}(?![\w-])")),
)
"""What differs from run to run, and is numbered in the order in which it appears."""
KID = re.compile(r'"kid": "([\w-]{11})"')
"""A key's id is short, and looks like a word: only those that are shown as ids are masked, wherever they stand."""
TIMES = (
    (re.compile(r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "INSTANT"),
    (re.compile(r"(?<![\w.-])1[789]\d{8}(\.\d+)?(?![\w-])"), "SECONDS"),
    (re.compile(r"\b20\d{6}T\d{6}Z"), "STAMP"),
    (re.compile(r'("(?:age|uptime|took|elapsed|size|bytes)": ?)[\d.]+'), r"\1NUMBER"),
    (re.compile(r"\b\d+(\.\d+)? ?(?:s|ms|min|KiB|MiB|KB|MB|kB)\b"), "QUANTITY"),
)
EVENT_HASH = re.compile(r'("hash": ?)"[\w-]{43}"')
NONCES = re.compile(r'("nonces": ?\[)"[^\]]*')
CALL_NONCE = re.compile(r'(\["call","tool","[^"]+",\w+,")[\w-]{16}'.replace('"', r'\\*"'))
HOP_NONCE = re.compile(r'(\["hop","[\w-]+",")[\w-]{11}'.replace('"', r'\\*"'))
POSITIONS = (
    (re.compile(r'(\\?"(?:position|reached|end)\\?": ?)\d+'), r"\1POSITION"),
    (re.compile(r"^\d+ +(?=INSTANT)", re.MULTILINE), "POSITION "),
)
"""Where an event stands in the log: a decision is recorded beside what it is about, sooner or later than that."""
IN_ANY_ORDER = "    # in any order"
"""What ends a command of the session whose lines are compared as a set."""
PORT = "8000"


def capture() -> dict[str, str]:
    """The content of each golden file, by its name."""
    with tempfile.TemporaryDirectory(prefix="gold-") as folder:
        session, documents = _session(Path(folder))
    return {
        "names.txt": _names(),
        "settings.txt": _settings(),
        "help.txt": _help(),
        "session.txt": session,
        **documents,
    }


def _names() -> str:
    """The names of both packages, and the public attributes of each class among them."""
    import capx
    import capx_caveats

    lines: list[str] = []
    for package in (capx, capx_caveats):
        for name in sorted(package.__all__):
            lines.append(f"{package.__name__}.{name}")
            value: object = getattr(package, name)
            if isinstance(value, type):
                lines += [f"{package.__name__}.{name}.{member}" for member in dir(value) if not member.startswith("_")]
    return "".join(f"{line}\n" for line in lines)


def _settings() -> str:
    found: set[str] = set()
    for source in SOURCES:
        for path in (CHECKOUT / source).rglob("*.py"):
            found |= set(re.findall(r"\bCAPX_[A-Z_]*[A-Z]\b", path.read_text("utf-8")))
    return "".join(f"{name}\n" for name in sorted(found))


def _help() -> str:
    """The help of each command and of each command of a group."""
    text, waiting = "", [()]
    while waiting:
        path: tuple[str, ...] = waiting.pop(0)
        shown = _run(_environment(Path("/nonexistent")), *_capx(*path, "--help"))
        text += f"$ {' '.join(('capx', *path, '--help'))}\n{shown}\n"
        listed = "".join(re.findall(r"^(?:C|More c)ommands:\n((?:  .*\n?)+)", shown, re.MULTILINE))
        waiting += [(*path, found) for found in re.findall(r"^  ([a-z][\w-]*)", listed, re.MULTILINE)]
    return text


def _capx(*args: str) -> tuple[str, ...]:
    return (str(served_commands() / "capx"), *args)


def _environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name.startswith("COV")}
    path = os.pathsep.join([str(served_commands()), str(Path(sys.executable).parent), os.environ["PATH"]])
    return {
        **kept,
        "HOME": str(home),
        "CAPX_HOME": str(home / "home"),
        "PATH": path,
        "LC_ALL": "C.UTF-8",
        "COLUMNS": "100",
    }


def _run(env: dict[str, str], *command: str, cwd: Path = CHECKOUT) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    return done.stdout


def _session(folder: Path) -> tuple[str, dict[str, str]]:
    """The session as a terminal shows it, and the operations of the faces. It writes their documents into files."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = str(listening.getsockname()[1])
    for program in ("decide.py", "stored.py"):
        (folder / program).write_text((HERE / program).read_text("utf-8"), "utf-8")
    (folder / "typed").write_text(_script((HERE / "session.sh").read_text("utf-8").replace(PORT, port)), "utf-8")
    shown = _run(_environment(folder), "bash", "--noprofile", "--norc", str(folder / "typed"), cwd=folder)
    text = masked(shown.replace(str(folder), "/home/ana").replace(f":{port}", f":{PORT}"))
    return text, {
        f"openapi.{face}.txt": openapi.operations(json.loads((folder / f"openapi.{face}.json").read_text("utf-8")))
        for face in openapi.FACES
    }


def _script(session: str) -> str:
    """The commands, each shown before it runs: a line each, but for the lines of a here-document."""
    script, rest = "trap 'kill $(jobs -p) 2> /dev/null' EXIT\n", session.splitlines()
    while rest:
        lines = [rest.pop(0)]
        if here := re.search(r"<<'(\w+)'", lines[0]):
            while lines[-1] != here[1]:
                lines.append(rest.pop(0))
        command = "\n".join(lines)
        if "capx store restore" in command:
            script += f"{NEW_SECOND}\n"
        script += (
            f"cat <<'=== shown'\n$ {command}\n=== shown\n{command}\nlast=$?; [ $last = 0 ] || echo \"exit $last\"\n"
        )
    return script


def masked(text: str) -> str:
    """A text without what differs from run to run."""
    text = CALL_NONCE.sub(r"\1NONCE", HOP_NONCE.sub(r"\1NONCE", text))
    text = NONCES.sub(r'\1"NONCES"', EVENT_HASH.sub(r'\1"HASH"', text))
    for label, pattern in MASKS:
        seen = dict.fromkeys(pattern.findall(text))
        for number, found in enumerate(seen, 1):
            text = text.replace(found, f"<{label}{number}>")
    for number, kid in enumerate(dict.fromkeys(KID.findall(text)), 1):
        text = text.replace(kid, f"<KID{number}>")
    for pattern, name in TIMES:
        text = pattern.sub(name, text)
    for pattern, name in POSITIONS:
        text = pattern.sub(name, text)
    commands = ("\n".join(line.rstrip() for line in text.splitlines())).split("\n$ ")
    return "\n$ ".join(map(_in_order, commands)) + "\n"


def _in_order(shown: str) -> str:
    command, *lines = shown.split("\n")
    return "\n".join([command, *(sorted(lines) if command.endswith(IN_ANY_ORDER.strip()) else lines)])
