"""Whatever text or file is read for a key, it is refused with an error of ours, or it is what was written.

An input is `S` and a sealed text, or `K` and the text of an agent's key file.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from capx.crypto.agent_key import AgentKey
from capx.crypto.sealed import PREFIX, seal
from capx.errors import CapxError
from tests.labs.keyed import PLANNER, SLIDES

TEXT = "capx1_AgEDY3Jt"
GOOD = {seal(TEXT, "bundle", PLANNER.public): TEXT, seal("", "bundle", PLANNER.public): ""}
FILE = Path(tempfile.mkdtemp()) / "agent.key"
FILE.touch(0o600)


def seeds() -> Iterable[bytes]:
    for sealed in GOOD:
        yield b"S" + sealed.encode()
    yield b"S" + seal(TEXT, "keys", PLANNER.public).encode()
    yield b"S" + seal(TEXT, "bundle", SLIDES.public).encode()
    yield b"S" + PREFIX.encode()
    yield b"K" + PLANNER.dump().encode()
    yield b"K" + PLANNER.dump().replace("agent", "principal").encode()
    yield b"K# a comment\n\n" + SLIDES.dump().encode() * 2


def check(data: bytes) -> None:
    text = data[1:]
    if data[:1] == b"S":
        opened(text.decode("latin-1"))
    elif data[:1] == b"K":
        FILE.write_bytes(text)
        try:
            key = AgentKey.load(FILE)
        except CapxError:
            return
        again = FILE.with_suffix(".again")
        again.unlink(missing_ok=True)
        key.save(again)
        assert AgentKey.load(again).public == key.public, "a key does not survive its file"


def opened(text: str) -> None:
    try:
        found = PLANNER.unseal(text, "bundle")
    except CapxError:
        assert text not in GOOD, "what was sealed cannot be opened"
    else:
        assert GOOD.get(text) == found, "a text that was changed can be opened"
