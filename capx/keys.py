"""Keys: a root key that the authority holds, and what is derived from it for one audience each.

Laws: a kid never means two keys. A resource holds the keys of its own audience, and from them no other can be
had. A key never shows in repr, pickles, JSON or errors; a key file that others may read is refused. A kid is a
dictionary key, never a path.
"""

import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from capx.chain import b64u, digest, equal, mac, macaroon_key, unb64u
from capx.errors import KeyProblem, MalformedToken
from capx_caveats import is_audience

KEY_BYTES = 32
KID_BYTES = 8


class _Secret:
    """Something that holds a key and keeps it to itself."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise KeyProblem("keys are not pickled or copied: export them to a key file")


def is_kid(text: str) -> bool:
    """Whether the text is a key id: 8 bytes in base64url."""
    try:
        return len(unb64u(text)) == KID_BYTES
    except MalformedToken:
        return False


def _demand_key(secret: bytes) -> None:
    if len(secret) != KEY_BYTES:
        raise KeyProblem(f"a key has exactly {KEY_BYTES} bytes, this one {len(secret)}")
    if len(set(secret)) == 1:
        raise KeyProblem("one repeated byte is a placeholder, not a key")


class AudienceKey(_Secret):
    """The key of one audience: mints and verifies for it, and for nobody else."""

    __slots__ = ("_secret", "audience", "kid", "mac_key")

    def __init__(self, kid: str, audience: str, secret: bytes) -> None:
        if not is_audience(audience):
            raise KeyProblem(f"{audience!r:.80} is not an audience: lower-case letters, digits, dots and dashes")
        if not is_kid(kid):
            raise KeyProblem(f"{kid!r:.80} is not a key id: 8 bytes in base64url")
        _demand_key(secret)
        self.kid = kid
        self.audience = audience
        self._secret = secret
        self.mac_key = macaroon_key(secret)

    def __repr__(self) -> str:
        return f"AudienceKey({self.audience!r}, kid={self.kid!r})"

    def line(self) -> str:
        """The line of a key file that holds this key: a secret."""
        return f"audience {self.audience} {self.kid} {b64u(self._secret)}"


class RootKey(_Secret):
    """32 random bytes from which every audience's key follows (HKDF-Expand, RFC 5869, first block)."""

    __slots__ = ("_secret", "kid")

    def __init__(self, secret: bytes) -> None:
        _demand_key(secret)
        self._secret = secret
        self.kid = b64u(digest(b"capx/1/kid", secret)[:KID_BYTES])

    @classmethod
    def generate(cls) -> "RootKey":
        """A fresh key from the operating system's randomness."""
        return cls(secrets.token_bytes(KEY_BYTES))

    def audience_key(self, audience: str) -> AudienceKey:
        """The key that a resource of this audience holds."""
        return AudienceKey(self.kid, audience, mac(self._secret, b"capx/1/audience/" + audience.encode() + b"\x01"))

    def __repr__(self) -> str:
        return f"RootKey(kid={self.kid!r})"

    def line(self) -> str:
        """The line of a key file that holds this key: a secret."""
        return f"root {self.kid} {b64u(self._secret)}"


class KeyRing(_Secret):
    """The root keys an authority holds; the first one mints."""

    __slots__ = ("_keys", "active")

    def __init__(self, active: RootKey, others: Iterable[RootKey] = ()) -> None:
        self.active = active
        self._keys = {key.kid: key for key in (active, *others)}

    def get(self, kid: str) -> RootKey | None:
        """The live root key of this kid."""
        return self._keys.get(kid)

    def audience_keys(self, audience: str) -> "AudienceKeys":
        """What a resource of this audience needs: one key for each live root key."""
        return AudienceKeys(audience, (key.audience_key(audience) for key in self._keys.values()))

    def __repr__(self) -> str:
        return f"KeyRing(active={self.active.kid!r}, kids={sorted(self._keys)!r})"

    @classmethod
    def load(cls, path: Path) -> "KeyRing":
        """Read a root key file; KeyProblem when it may not be used."""
        keys: list[RootKey] = []
        for number, (kind, *fields) in _lines(path):
            if kind != "root" or len(fields) != 2:
                raise KeyProblem(f"{path}, line {number}: wanted `root KID KEY`")
            key = RootKey(_unb64u(path, number, fields[1]))
            if key.kid != fields[0]:
                raise KeyProblem(f"{path}, line {number}: the kid is not this key's")
            keys.append(key)
        if not keys:
            raise KeyProblem(f"{path} holds no key")
        return cls(keys[0], keys[1:])

    def save(self, path: Path) -> None:
        """Write a root key file that only its owner may read; never over an existing file."""
        _write(path, (key.line() for key in self._keys.values()))


class AudienceKeys(_Secret):
    """The keys a resource holds: its own audience's, one for each live root key."""

    __slots__ = ("_keys", "audience")

    def __init__(self, audience: str, keys: Iterable[AudienceKey]) -> None:
        self.audience = audience
        self._keys: dict[str, AudienceKey] = {}
        for key in keys:
            if key.audience != audience:
                raise KeyProblem(f"a key of {key.audience!r} does not belong to {audience!r}")
            if not equal(self._keys.setdefault(key.kid, key).mac_key, key.mac_key):
                raise KeyProblem(f"two keys claim the id {key.kid}")

    def get(self, kid: str) -> AudienceKey | None:
        """The live key of this kid."""
        return self._keys.get(kid)

    def __repr__(self) -> str:
        return f"AudienceKeys({self.audience!r}, kids={sorted(self._keys)!r})"

    def dump(self) -> str:
        """The text of a key file: a secret."""
        return "".join(f"{key.line()}\n" for key in self._keys.values())

    @classmethod
    def load(cls, path: Path, audience: str | None = None) -> "AudienceKeys":
        """Read the key file of one audience; KeyProblem when it may not be used or is another's."""
        keys: list[AudienceKey] = []
        for number, (kind, *fields) in _lines(path):
            if kind != "audience" or len(fields) != 3:
                raise KeyProblem(f"{path}, line {number}: wanted `audience AUDIENCE KID KEY`")
            keys.append(AudienceKey(fields[1], fields[0], _unb64u(path, number, fields[2])))
        if not keys:
            raise KeyProblem(f"{path} holds no key")
        return cls(audience or keys[0].audience, keys)

    def save(self, path: Path) -> None:
        """Write a key file that only its owner may read; never over an existing file."""
        _write(path, self.dump().splitlines())


def _lines(path: Path) -> Iterable[tuple[int, list[str]]]:
    try:
        with path.open(encoding="ascii") as file:
            if os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o077:
                raise KeyProblem(f"{path} may be read by others: chmod 600 {path}")
            lines = file.read().splitlines()
    except OSError as error:
        raise KeyProblem(f"cannot read the key file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise KeyProblem(f"{path} is no key file") from None
    return [(number, line.split()) for number, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]


def _unb64u(path: Path, number: int, text: str) -> bytes:
    try:
        return unb64u(text)
    except MalformedToken:
        raise KeyProblem(f"{path}, line {number}: the key is not base64url") from None


def _write(path: Path, lines: Iterable[str]) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise KeyProblem(
            f"cannot write the key file {path}: it is there already: choose another name, or remove it"
        ) from None
    except OSError as error:
        raise KeyProblem(f"cannot write the key file {path}: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.writelines(f"{line}\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        raise KeyProblem(f"cannot write the key file {path}: {error.strerror}") from None
