"""Keys: the root keys of the authority, and the key that is derived from each of them for one audience.

A kid is the id of a root key.

Laws: a kid never means two keys. A resource holds the keys of its own audience, and nobody can derive another key from
them. A key never shows in repr, pickles, JSON or errors. When an error is raised, no local variable in its traceback
holds a key, because error reporters send these. A kid is used as a dictionary key, never as a path. Rotation has three
steps: a new key first only verifies, then it mints, and then the old key is retired. So the authority never mints a
token that no resource can verify. capx.crypto.key_file says how keys are kept in a file.

Keys name their authority: only the store of that authority knows what was revoked under them. A file that does not name
it is refused. Keys that were made in memory name none until an authority uses them.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, NoReturn

from msgspec import Struct

from capx.crypto import core_dumps, key_file
from capx.crypto.base64url import b64u, is_bytes, unb64u
from capx.crypto.hashing import digest, equal, mac, macaroon_key, sized
from capx.errors import InvalidRequest, KeyProblem, MalformedToken
from capx_caveats import is_audience

if TYPE_CHECKING:
    from pathlib import Path  # slow to import: a caller that passes one has imported it already

    from capx.crypto.ed25519 import FeedSigner, Signer  # slow to import too: only signing and feeds need it

KEY_BYTES = 32
KID_BYTES = 8
AUTHORITY_BYTES = 16

# At most 8 MiB for each root key.
_REMEMBERED_ROWS, _LONGEST_REMEMBERED = 4_096, 2_048
_REMEMBERED_AUDIENCES = 256


class _Secret:
    """The base of classes that hold a key, which nobody can pickle or copy."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise KeyProblem("a key cannot be pickled or copied: export it to a key file")


def is_kid(text: str) -> bool:
    """Whether the text is a key id: 8 bytes in base64url."""
    return is_bytes(text, KID_BYTES)


def is_authority(text: str) -> bool:
    """Whether the text is the id of an authority: 16 bytes in base64url."""
    return is_bytes(text, AUTHORITY_BYTES)


def _weakness(secret: bytes) -> str | None:
    if len(secret) != KEY_BYTES:
        return f"a key has exactly {KEY_BYTES} bytes, this one {len(secret)}"
    return "one repeated byte is a placeholder, not a key: generate a random one" if len(set(secret)) == 1 else None


def _demand_audience(audience: str) -> None:
    if not is_audience(audience):
        raise KeyProblem(f"{audience!r:.80} is not an audience: lower-case letters, digits, dots and dashes")


class AudienceKey(_Secret):
    """The key of one audience: it mints and verifies tokens for this audience, and for no other."""

    __slots__ = ("_secret", "audience", "kid", "mac_key")

    def __init__(self, kid: str, audience: str, secret: bytes) -> None:
        # The names first: a key whose checks fail still needs a repr. The secret leaves its local variable at once,
        # because error reporters send the locals of a traceback.
        self.kid = kid
        self.audience = audience
        self._secret = secret
        del secret
        _demand_audience(audience)
        if not is_kid(kid):
            raise KeyProblem(f"{kid!r:.80} is not a key id: 8 bytes in base64url")
        if problem := _weakness(self._secret):
            raise KeyProblem(problem)
        self.mac_key = macaroon_key(self._secret)

    def __repr__(self) -> str:
        return f"AudienceKey({self.audience!r}, kid={self.kid!r})"

    def line(self) -> str:
        """Return the line of a key file that holds this key: a secret."""
        return f"audience {self.audience} {self.kid} {b64u(self._secret)}"


class RootKey(_Secret):
    """32 random bytes, from which the key of every audience is derived (HKDF-Expand, RFC 5869, first block)."""

    __slots__ = ("_audience_key", "_remembered_row_mark", "_row_mark", "_secret", "kid")

    def __init__(self, secret: bytes) -> None:
        # As in AudienceKey: a repr for a key whose checks fail, and no secret in a local variable.
        self.kid = ""
        self._secret = secret
        del secret
        if problem := _weakness(self._secret):
            raise KeyProblem(problem)
        self.kid = b64u(digest(b"capx/1/kid", self._secret)[:KID_BYTES])
        # To derive a key takes longer than to mint with it, and an authority has few audiences.
        self._audience_key = lru_cache(_REMEMBERED_AUDIENCES)(self._derived)
        # An agent that asks has the rows of its task checked again, and most of them have not changed.
        self._row_mark = partial(_row_mark, mac(self._secret, b"capx/1/row\x01"), unb64u(self.kid))
        self._remembered_row_mark = lru_cache(_REMEMBERED_ROWS)(self._row_mark)

    @classmethod
    def generate(cls) -> "RootKey":
        """Return a new key from the randomness of the operating system; this process dumps no core from now on."""
        core_dumps.forbid()
        return cls(os.urandom(KEY_BYTES))

    def audience_key(self, audience: str) -> AudienceKey:
        """Return the key for the resource of this audience."""
        _demand_audience(audience)
        return self._audience_key(audience)

    def _derived(self, audience: str) -> AudienceKey:
        return AudienceKey(self.kid, audience, mac(self._secret, b"capx/1/audience/" + audience.encode() + b"\x01"))

    def feed_signer(self) -> "FeedSigner":
        """Return the signer of the authority's feed for the time in which this key mints.

        The feed carries deaths: the ends of tasks, and revocations.
        """
        from capx.crypto.ed25519 import FeedSigner

        return FeedSigner(self.kid, mac(self._secret, b"capx/1/feed\x01"))

    def log_signer(self) -> "Signer":
        """Return the signer of the authority's log: it signs checkpoints, and extracts in proofs."""
        from capx.crypto.ed25519 import Signer

        return Signer(mac(self._secret, b"capx/1/log\x01"))

    def statement_signer(self) -> "Signer":
        """Return the signer of statements for third parties."""
        from capx.crypto.ed25519 import Signer

        return Signer(mac(self._secret, b"capx/1/statement\x01"))

    def row_mark(self, table: str, id_: str, fields: bytes) -> bytes:
        """Return the mark of a row in the authority's store: the kid (8 bytes) and a MAC (32 bytes).

        capx.store.row_marks says what `fields` are.
        """
        mark = self._row_mark if len(fields) > _LONGEST_REMEMBERED else self._remembered_row_mark
        return mark(table, id_, fields)

    def __repr__(self) -> str:
        return f"RootKey(kid={self.kid!r})"

    def line(self) -> str:
        """Return the line of a key file that holds this key: a secret."""
        return f"root {self.kid} {b64u(self._secret)}"


def _row_mark(row_key: bytes, kid: bytes, table: str, id_: str, fields: bytes) -> bytes:
    return kid + mac(row_key, sized(table.encode()) + sized(id_.encode()) + sized(kid) + fields)


class KeyRing(_Secret):
    """The root keys of an authority. The first one mints; all of them verify.

    `authority` is the id of the authority; None for keys that no authority has used yet.
    """

    __slots__ = ("_keys", "active", "authority")

    def __init__(self, active: RootKey, others: Iterable[RootKey] = (), authority: str | None = None) -> None:
        self.active = active
        self.authority = authority
        self._keys = {key.kid: key for key in (active, *others)}

    @property
    def kids(self) -> tuple[str, ...]:
        """The ids of all live root keys; the first is that of the key that mints."""
        return tuple(self._keys)

    def get(self, kid: str) -> RootKey | None:
        """Return the live root key with this kid, or None."""
        return self._keys.get(kid)

    def feed_signers(self) -> "list[FeedSigner]":
        """Return the signers of the feed: one for each live root key, that of the key that mints first."""
        return [key.feed_signer() for key in self._keys.values()]

    def log_signers(self) -> "list[Signer]":
        """Return the signers of the log: one for each live root key, that of the key that mints first."""
        return [key.log_signer() for key in self._keys.values()]

    def added(self, key: RootKey) -> "KeyRing":
        """Return these keys with one more, which verifies but does not mint."""
        return KeyRing(self.active, (*self._keys.values(), key), self.authority)

    def activated(self, kid: str) -> "KeyRing":
        """Return the same keys, of which this one mints; InvalidRequest if it is not one of them."""
        return KeyRing(self._known(kid), self._keys.values(), self.authority)

    def retired(self, kid: str) -> "KeyRing":
        """Return the other keys; tokens of this one are denied from then on. InvalidRequest for the key that mints."""
        leaving = self._known(kid)
        if leaving is self.active:
            raise InvalidRequest(f"the key {kid} is the one that mints: activate another one first, then retire it")
        return KeyRing(self.active, (key for key in self._keys.values() if key is not leaving), self.authority)

    def of(self, authority: str) -> "KeyRing":
        """Return the same keys as those of this authority; KeyProblem if they are those of another one."""
        if self.authority not in {None, authority}:
            raise KeyProblem(
                f"these root keys are those of authority {self.authority}, and the store is that of {authority}, which "
                "does not know what was revoked under them: put the store and the keys of one authority together"
            )
        return KeyRing(self.active, self._keys.values(), authority)

    def _known(self, kid: str) -> RootKey:
        key = self.get(kid)
        if key is None:
            raise InvalidRequest(f"there is no live key {kid!r:.80}: capx keys list shows all live keys")
        return key

    def audience_keys(self, audience: str) -> "AudienceKeys":
        """Return the keys for the resource of this audience: one for each live root key."""
        keys = (key.audience_key(audience) for key in self._keys.values())
        return AudienceKeys(audience, keys, authority=self.authority)

    def exported(self, audience: str) -> "AudienceKeys":
        """Return the keys for the resource of this audience, with the public keys of the authority's feed."""
        keys = [key.audience_key(audience) for key in self._keys.values()]
        feed = {signer.kid: signer.public for signer in self.feed_signers()}
        return AudienceKeys(audience, keys, feed, self.authority)

    def __repr__(self) -> str:
        return f"KeyRing(active={self.active.kid!r}, kids={sorted(self._keys)!r})"

    @classmethod
    def load(cls, path: "Path") -> "KeyRing":
        """Read a root key file; KeyProblem if it cannot be used. This process dumps no core from now on."""
        core_dumps.forbid()
        lines: list[RootKey | _Named] = key_file.loaded(path, _root_line)
        authority = _authority(path, lines)
        keys = [line for line in lines if not isinstance(line, _Named)]
        if not keys:
            raise KeyProblem(f"{path} holds no key: put the root keys back from your backup")
        if authority is None:
            raise KeyProblem(f"{path} does not name its authority: put the root keys back from your backup")
        return cls(keys[0], keys[1:], authority)

    def save(self, path: "Path") -> None:
        """Write a root key file that only its owner can read; never over an existing file."""
        key_file.write(path, self)

    @classmethod
    def change(cls, path: "Path", change: "Callable[[KeyRing], KeyRing]") -> "KeyRing":
        """Replace the keys in a root key file by the result of `change`; return the new keys.

        Another process that changes the file waits until this one has finished. If `change` raises, the file stays as
        it was. After a crash, it is the old file or the new one, whole.
        """
        with key_file.changing(path) as file:
            # Read it within the lock: two processes that each add a key must not lose one.
            ring = change(cls.load(file))
            key_file.replace(file, ring)
        return ring

    def dump(self) -> str:
        """Return the text of a root key file: a secret."""
        return _dumped(self.authority, self._keys.values())


class FeedKey(Struct, frozen=True):
    """A public key that verifies the authority's feed, with the kid of the root key that it is derived from."""

    kid: str
    public: bytes

    def __post_init__(self) -> None:
        from capx.crypto.ed25519 import weakness

        if not is_kid(self.kid):
            raise KeyProblem(f"{self.kid!r:.80} is not a key id: 8 bytes in base64url")
        if problem := weakness(self.public):
            raise KeyProblem(problem)

    def line(self) -> str:
        """Return the line of a key file that holds this key, which is not a secret."""
        return f"feed {self.kid} {b64u(self.public)}"


class AudienceKeys(_Secret):
    """The keys of a resource: those of its own audience, one for each live root key, and the feed's public keys.

    `feed` has the public keys (32 bytes) by kid. It is empty for a resource that does not follow a feed. `authority` is
    the id of the authority, as in `KeyRing`. A verifier with these keys believes only the revocations of this one.
    """

    __slots__ = ("__weakref__", "_keys", "audience", "authority", "feed")

    def __init__(
        self,
        audience: str,
        keys: Iterable[AudienceKey],
        feed: Mapping[str, bytes] | None = None,
        authority: str | None = None,
    ) -> None:
        self.audience = audience
        self.authority = authority
        self.feed: Mapping[str, bytes] = MappingProxyType(
            {key.kid: key.public for key in (FeedKey(kid, public) for kid, public in (feed or {}).items())}
        )
        self._keys: dict[str, AudienceKey] = {}
        for key in keys:
            if key.audience != audience:
                raise KeyProblem(f"a key of audience {key.audience!r} cannot be among the keys of {audience!r}")
            if not equal(self._keys.setdefault(key.kid, key).mac_key, key.mac_key):
                raise KeyProblem(f"two different keys have the id {key.kid}: export the key file again")

    def get(self, kid: str) -> AudienceKey | None:
        """Return the live key with this kid, or None."""
        return self._keys.get(kid)

    @property
    def live(self) -> tuple[AudienceKey, ...]:
        """All live keys; in an export of an authority, the first is that of the root key that mints."""
        return tuple(self._keys.values())

    def become(self, others: "AudienceKeys") -> None:
        """Take over those keys. A key that stays keeps its object, so results that are cached for it stay valid."""
        if others.audience != self.audience:
            raise KeyProblem(f"the keys of audience {others.audience!r} cannot replace those of {self.audience!r}")
        if others.authority != self.authority:
            raise KeyProblem(f"the keys of authority {others.authority} cannot replace those of {self.authority}")
        self._keys = {kid: self._keys.get(kid, key) for kid, key in others._keys.items()}  # noqa: SLF001 # of this class
        self.feed = others.feed

    def __repr__(self) -> str:
        return f"AudienceKeys({self.audience!r}, kids={sorted(self._keys)!r})"

    def dump(self) -> str:
        """Return the text of a key file: a secret."""
        lines: list[AudienceKey | FeedKey] = [*self._keys.values()]
        return _dumped(self.authority, lines + [FeedKey(kid, public) for kid, public in self.feed.items()])

    @classmethod
    def load(cls, path: "Path", audience: str | None = None) -> "AudienceKeys":
        """Read the key file of one audience; KeyProblem if it cannot be used or is of another audience."""
        lines: list[AudienceKey | FeedKey | _Named] = key_file.loaded(path, _audience_line)
        return cls._of(f"{path}", lines, audience)

    @classmethod
    def parse(cls, text: str, name: str) -> "AudienceKeys":
        """Read the text of a key file, which an error calls `name`; KeyProblem if it cannot be used."""
        lines: list[AudienceKey | FeedKey | _Named] = key_file.parsed(text, name, _audience_line)
        del text  # error reporters send the locals of a traceback
        return cls._of(name, lines, None)

    @classmethod
    def _of(cls, path: str, lines: "list[AudienceKey | FeedKey | _Named]", audience: str | None) -> "AudienceKeys":
        authority = _authority(path, lines)
        held = [line for line in lines if not isinstance(line, _Named)]
        keys = [key for key in held if isinstance(key, AudienceKey)]
        if not keys:
            raise KeyProblem(f"{path} holds no key of an audience: give what capx keys export wrote")
        if authority is None:
            raise KeyProblem(
                f"{path} does not name its authority: export it anew at the authority, with capx keys export "
                f"{keys[0].audience} --out FILE --replace"
            )
        feed: dict[str, bytes] = {}
        for key in held:
            if isinstance(key, FeedKey) and feed.setdefault(key.kid, key.public) != key.public:
                raise KeyProblem(f"{path}: two feed keys have the id {key.kid}: export the key file again")
        return cls(audience or keys[0].audience, keys, feed, authority)

    def save(self, path: "Path", *, replace: bool = False) -> None:
        """Write a key file that only its owner can read; with `replace`, a new file takes the place of an old one.

        Without `replace`, KeyProblem if there is a file already. With it, a link is followed if it belongs to this user
        or root, and KeyProblem is raised if the path is not a regular file.
        """
        if not replace:
            key_file.write(path, self)
            return
        with key_file.changing(path) as file:
            key_file.replace(file, self)


class _Named(Struct, frozen=True):
    """The line of a key file that names the authority."""

    authority: str


def _authority(path: "Path | str", lines: Iterable[object]) -> str | None:
    """Return the authority that a file names, if it does; KeyProblem if it names one twice."""
    names = [line.authority for line in lines if isinstance(line, _Named)]
    if len(names) > 1:
        raise KeyProblem(f"{path} names its authority twice: keep one file for each authority, as capx wrote it")
    return names[0] if names else None


def _named(fields: list[str]) -> _Named | str:
    if len(fields) != 2 or not is_authority(fields[1]):
        return "wanted `authority ID`, with 16 bytes in base64url"
    return _Named(fields[1])


def _root_line(fields: list[str]) -> RootKey | _Named | str:
    if fields[0] == "authority":
        return _named(fields)
    if len(fields) != 3 or fields[0] != "root":
        return "wanted `root KID KEY` or `authority ID`"
    try:
        key = RootKey(unb64u(fields[2]))
    except MalformedToken:
        return "the key is not base64url"
    except KeyProblem as problem:
        return str(problem)
    # The kid is a digest of the key: a line that somebody edited, or cut short, does not match.
    return key if key.kid == fields[1] else "the kid does not belong to this key"


def _audience_line(fields: list[str]) -> AudienceKey | FeedKey | _Named | str:
    kind = (fields[0], len(fields))
    if kind[0] == "authority":
        return _named(fields)
    if kind not in {("audience", 4), ("feed", 3)}:
        return "wanted `audience AUDIENCE KID KEY`, `feed KID KEY` or `authority ID`"
    try:
        if kind[0] == "feed":
            return FeedKey(fields[1], unb64u(fields[2]))
        return AudienceKey(fields[2], fields[1], unb64u(fields[3]))
    except MalformedToken:
        return "the key is not base64url"
    except KeyProblem as problem:
        return str(problem)


def _dumped(authority: str | None, keys: Iterable[RootKey] | Iterable[AudienceKey | FeedKey]) -> str:
    named = [] if authority is None else [f"authority {authority}"]
    return "".join(f"{line}\n" for line in (*named, *(key.line() for key in keys)))
