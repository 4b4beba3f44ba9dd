"""Key files that are right, and files that are wrong in one way each; a full disk is faked."""

import os
from pathlib import Path

from capx.crypto import hashing
from capx.crypto.keys import AudienceKeys, KeyRing, RootKey
from tests.labs.lab import KEY, ROOT_KEY

OTHER = RootKey(bytes(range(1, 33)))
SECRET = bytes(range(32))
AUTHORITY = "AAAAAAAAAAAAAAAAAAAAAA"
OTHERS = "BBBBBBBBBBBBBBBBBBBBBA"
NAMED = f"authority {AUTHORITY}\n"
RING = KeyRing(ROOT_KEY, authority=AUTHORITY)
ROOT_KEY_KEYS = AudienceKeys("crm", [KEY], authority=AUTHORITY)


def spoilt(line: str, other: str) -> dict[str, str]:
    """A broken key file: the line of one, under the kind of the other."""
    before, key = line.rsplit(" ", 1)
    named = {
        "the other kind": line.replace(line.split(maxsplit=1)[0], other, 1),
        "a missing field": before,
        "another field": f"{line} x",
        "no base64": f"{before} {key[:-3]}!!!",
        "no ascii": f"{before} {key[:-1]}ü",
        "a short key": line[:-4],
        "padding": f"{line}=",
        "a placeholder": f"{before} {'A' * 43}",
        "no ascii in another line": f"{line}\nü",
        "a good line and a bad one": f"{line}\n{line}=\n",
        "a path for a kid": line.replace(ROOT_KEY.kid, "../../../etc"),
        "another's kid": line.replace(ROOT_KEY.kid, OTHER.kid) if other == "audience" else f"{line}\n{other}",
        "no key": "",
        "a second authority": f"{line}\nauthority {OTHERS}",
        "the same authority twice": f"{line}\n{NAMED}",
    }
    files = {name: f"{NAMED}{text}" for name, text in named.items()}
    unnamed = {"no authority": line, "a short authority": f"authority AAAA\n{line}", "no id": f"authority\n{line}"}
    return {"nothing": "", "a comment alone": "# keys\n", **files, **unnamed}


LINE, ROOT_LINE = KEY.line(), ROOT_KEY.line()
FILES = {**spoilt(LINE, "root"), "two audiences": f"{NAMED}{LINE}\n{ROOT_KEY.audience_key('slides').line()}"}
ROOT_FILES = spoilt(ROOT_LINE, "audience")
SEED = hashing.mac(SECRET, b"capx/1/feed\x01")
SIGNER = ROOT_KEY.feed_signer()


def disk_is_full(_: int) -> None:
    raise OSError(28, "No space left on device")


def saved(folder: Path) -> Path:
    path = folder / "root.keys"
    RING.save(path)
    return path


def make_a_pipe(path: Path) -> None:
    os.mkfifo(path, 0o600)
