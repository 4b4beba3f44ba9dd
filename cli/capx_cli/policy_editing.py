"""How a policy file gets one more table, and stays as it is otherwise.

Laws: what stands there is kept, byte for byte. The new file is tried before it takes the place of the old one, and says
what it did before, and the one thing more. Readers see the one or the other; nobody else changes it meanwhile.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from capx_cli.failure import Unusable

if TYPE_CHECKING:
    from capx.policy import Principal


def append(path: Path, wanted: "Principal", table: str) -> None:
    """Add a table that says what is wanted of a principal; UsageError if the policy knows them already."""
    from capx import key_file
    from capx.policy.file import read_policy

    if not path.parent.is_dir():
        raise Unusable(f"no authority lives in {path.parent}: create one with capx init, or set CAPX_HOME")
    file = key_file.followed(path)
    with key_file.alone(file):
        old = _read(file)
        before = read_policy(old, str(path))
        if wanted.name in before.principals:
            raise click.UsageError(f"the policy knows {wanted.name} already: change {path} by hand")
        apart = b"" if not old else b"\n" if old.endswith(b"\n") else b"\n\n"
        new = old + apart + table.encode()
        after = read_policy(new, f"{path} with {wanted.name}")
        if dict(after.principals) != {**before.principals, wanted.name: wanted}:
            raise click.UsageError(f"{path} would not say that of {wanted.name}: change it by hand")
        _replace(file, new)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise Unusable(f"cannot read {file}: {error.strerror}") from None


def _replace(file: Path, data: bytes) -> None:
    beside = file.with_name(f"{file.name}.new")
    try:
        # Left by a change that a crash cut short: nobody else is changing it now.
        beside.unlink(missing_ok=True)
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb") as draft:
                _owned_alike(file, handle)
                draft.write(data)
                draft.flush()
                os.fsync(handle)
            beside.replace(file)
        except BaseException:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            raise
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise Unusable(f"cannot change {file}: {error.strerror}") from None


def _owned_alike(file: Path, handle: int) -> None:
    """Give the new file the owner and the permissions of the old one."""
    with suppress(FileNotFoundError):
        found = file.stat()
        if found.st_uid != os.geteuid():
            os.fchown(handle, found.st_uid, found.st_gid)
        os.fchmod(handle, found.st_mode & 0o777)
