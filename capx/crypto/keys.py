"""Keys: a root key that the authority holds, and what is derived from it for one audience each.

Laws: a kid never means two keys. A resource holds the keys of its own audience, and from them no other can be had. A
key never shows in repr, pickles, JSON or errors, and no local of a frame in which something is raised holds one, for
there are reporters that send these. A kid is a dictionary key, never a path. Rotation is a new key that verifies, then
mints, and an old one that is retired, so that nothing is ever minted that nobody can verify. How keys are kept in a
file is said in capx.crypto.key_file.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NoReturn

from msgspec import Struct

from capx.crypto import key_file
from capx.crypto.base64url import b64u, unb64u
from capx.crypto.hashing import digest, equal, mac, macaroon_key
from capx.errors import InvalidRequest, KeyProblem, MalformedToken
from capx_caveats import is_audience

if TYPE_CHECKING:
    from pathlib import Path  # slow to import, and only whoever has one calls what takes one

    from capx.crypto.ed25519 import FeedSigner  # as slow, and only whoever signs or follows a feed needs it

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


def _weakness(secret: bytes) -> str | None:
    if len(secret) != KEY_BYTES:
        return f"a key has exactly {KEY_BYTES} bytes, this one {len(secret)}"
    return "one repeated byte is a placeholder, not a key" if len(set(secret)) == 1 else None


def _demand_audience(audience: str) -> None:
    if not is_audience(audience):
        raise KeyProblem(f"{audience!r:.80} is not an audience: lower-case letters, digits, dots and dashes")


class AudienceKey(_Secret):
    """The key of one audience: mints and verifies for it, and for nobody else."""

    __slots__ = ("_secret", "audience", "kid", "mac_key")

    def __init__(self, kid: str, audience: str, secret: bytes) -> None:
        # The names first, so that one half built has a repr; the secret in no local from here on.
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
        """The line of a key file that holds this key: a secret."""
        return f"audience {self.audience} {self.kid} {b64u(self._secret)}"


class RootKey(_Secret):
    """32 random bytes from which every audience's key follows (HKDF-Expand, RFC 5869, first block)."""

    __slots__ = ("_secret", "kid")

    def __init__(self, secret: bytes) -> None:
        self.kid = ""
        self._secret = secret
        del secret
        if problem := _weakness(self._secret):
            raise KeyProblem(problem)
        self.kid = b64u(digest(b"capx/1/kid", self._secret)[:KID_BYTES])

    @classmethod
    def generate(cls) -> "RootKey":
        """A fresh key from the operating system's randomness."""
        return cls(os.urandom(KEY_BYTES))

    def audience_key(self, audience: str) -> AudienceKey:
        """The key that a resource of this audience holds."""
        _demand_audience(audience)
        return AudienceKey(self.kid, audience, mac(self._secret, b"capx/1/audience/" + audience.encode() + b"\x01"))

    def feed_signer(self) -> "FeedSigner":
        """What signs the authority's feed of deaths while this key is the one that mints."""
        from capx.crypto.ed25519 import FeedSigner

        return FeedSigner(self.kid, mac(self._secret, b"capx/1/feed\x01"))

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

    @property
    def kids(self) -> tuple[str, ...]:
        """The ids of all live root keys, the one that mints first."""
        return tuple(self._keys)

    def get(self, kid: str) -> RootKey | None:
        """The live root key of this kid."""
        return self._keys.get(kid)

    def added(self, key: RootKey) -> "KeyRing":
        """These keys and one more, which verifies and does not mint."""
        return KeyRing(self.active, (*self._keys.values(), key))

    def activated(self, kid: str) -> "KeyRing":
        """The same keys, this one minting; InvalidRequest if it is not among them."""
        return KeyRing(self._known(kid), self._keys.values())

    def retired(self, kid: str) -> "KeyRing":
        """The other keys: all that was minted under this one is refused; InvalidRequest for the one that mints."""
        leaving = self._known(kid)
        if leaving is self.active:
            raise InvalidRequest(f"the key {kid} mints: activate another one first, then retire it")
        return KeyRing(self.active, (key for key in self._keys.values() if key is not leaving))

    def _known(self, kid: str) -> RootKey:
        key = self.get(kid)
        if key is None:
            raise InvalidRequest(f"there is no live key {kid!r:.80}: capx keys list shows those that there are")
        return key

    def audience_keys(self, audience: str) -> "AudienceKeys":
        """What a resource of this audience needs: one key for each live root key."""
        return AudienceKeys(audience, (key.audience_key(audience) for key in self._keys.values()))

    def exported(self, audience: str) -> "AudienceKeys":
        """What a resource of this audience needs, and what it follows the authority's feed with."""
        keys = [key.audience_key(audience) for key in self._keys.values()]
        return AudienceKeys(audience, keys, {key.kid: key.feed_signer().public for key in self._keys.values()})

    def __repr__(self) -> str:
        return f"KeyRing(active={self.active.kid!r}, kids={sorted(self._keys)!r})"

    @classmethod
    def load(cls, path: "Path") -> "KeyRing":
        """Read a root key file; KeyProblem when it may not be used."""
        keys = key_file.loaded(path, _root_key)
        return cls(keys[0], keys[1:])

    def save(self, path: "Path") -> None:
        """Write a root key file that only its owner may read; never over an existing file."""
        key_file.write(path, self)

    @classmethod
    def change(cls, path: "Path", change: "Callable[[KeyRing], KeyRing]") -> "KeyRing":
        """Replace what a root key file holds by what `change` makes of it; gives the new keys.

        Whoever changes it at the same time waits. A change that raises, or that a crash cut short, is none.
        """
        with key_file.changing(path) as file:
            ring = change(cls.load(file))
            key_file.replace(file, ring)
        return ring

    def dump(self) -> str:
        """The text of a root key file: a secret."""
        return _dumped(self._keys.values())


class FeedKey(Struct, frozen=True):
    """The public half of the key that signs the authority's feed, by the kid of the root key it follows from."""

    kid: str
    public: bytes

    def __post_init__(self) -> None:
        from capx.crypto.ed25519 import weakness

        if not is_kid(self.kid):
            raise KeyProblem(f"{self.kid!r:.80} is not a key id: 8 bytes in base64url")
        if problem := weakness(self.public):
            raise KeyProblem(problem)

    def line(self) -> str:
        """The line of a key file that holds this key, which is no secret."""
        return f"feed {self.kid} {b64u(self.public)}"


class AudienceKeys(_Secret):
    """The keys a resource holds: its own audience's, one for each live root key; the feed's, where it is to follow it.

    `feed` gives public keys (32 bytes) by kid.
    """

    __slots__ = ("__weakref__", "_keys", "audience", "feed")

    def __init__(self, audience: str, keys: Iterable[AudienceKey], feed: Mapping[str, bytes] | None = None) -> None:
        self.audience = audience
        self.feed: Mapping[str, bytes] = MappingProxyType(
            {key.kid: key.public for key in (FeedKey(kid, public) for kid, public in (feed or {}).items())}
        )
        self._keys: dict[str, AudienceKey] = {}
        for key in keys:
            if key.audience != audience:
                raise KeyProblem(f"a key of {key.audience!r} does not belong to {audience!r}")
            if not equal(self._keys.setdefault(key.kid, key).mac_key, key.mac_key):
                raise KeyProblem(f"two keys claim the id {key.kid}")

    def get(self, kid: str) -> AudienceKey | None:
        """The live key of this kid."""
        return self._keys.get(kid)

    @property
    def live(self) -> tuple[AudienceKey, ...]:
        """All of them; in what an authority exports, that of the root key that mints stands first."""
        return tuple(self._keys.values())

    def become(self, others: "AudienceKeys") -> None:
        """Hold those keys from now on; a key that stays is the same object, so what was verified under it is known."""
        if others.audience != self.audience:
            raise KeyProblem(f"the keys of {others.audience!r} do not belong to {self.audience!r}")
        self._keys = {kid: self._keys.get(kid, key) for kid, key in others._keys.items()}  # noqa: SLF001 # of this class
        self.feed = others.feed

    def __repr__(self) -> str:
        return f"AudienceKeys({self.audience!r}, kids={sorted(self._keys)!r})"

    def dump(self) -> str:
        """The text of a key file: a secret."""
        lines: list[AudienceKey | FeedKey] = [*self._keys.values()]
        return _dumped(lines + [FeedKey(kid, public) for kid, public in self.feed.items()])

    @classmethod
    def load(cls, path: "Path", audience: str | None = None) -> "AudienceKeys":
        """Read the key file of one audience; KeyProblem when it may not be used or is another's."""
        held: list[AudienceKey | FeedKey] = key_file.loaded(path, _audience_line)
        keys = [key for key in held if isinstance(key, AudienceKey)]
        if not keys:
            raise KeyProblem(f"{path} holds no key of an audience")
        feed: dict[str, bytes] = {}
        for key in held:
            if isinstance(key, FeedKey) and feed.setdefault(key.kid, key.public) != key.public:
                raise KeyProblem(f"{path}: two feed keys claim the id {key.kid}")
        return cls(audience or keys[0].audience, keys, feed)

    def save(self, path: "Path", *, replace: bool = False) -> None:
        """Write a key file that only its owner may read; over an existing file only with `replace`, and then whole.

        A link is followed then if it is of this user or root. KeyProblem for what is there and is no regular file.
        """
        if not replace:
            key_file.write(path, self)
            return
        with key_file.changing(path) as file:
            key_file.replace(file, self)


def _root_key(fields: list[str]) -> RootKey | str:
    if len(fields) != 3 or fields[0] != "root":
        return "wanted `root KID KEY`"
    try:
        key = RootKey(unb64u(fields[2]))
    except MalformedToken:
        return "the key is not base64url"
    except KeyProblem as problem:
        return str(problem)
    return key if key.kid == fields[1] else "the kid is not this key's"


def _audience_line(fields: list[str]) -> AudienceKey | FeedKey | str:
    kind = (fields[0], len(fields))
    if kind not in {("audience", 4), ("feed", 3)}:
        return "wanted `audience AUDIENCE KID KEY` or `feed KID KEY`"
    try:
        if kind[0] == "feed":
            return FeedKey(fields[1], unb64u(fields[2]))
        return AudienceKey(fields[2], fields[1], unb64u(fields[3]))
    except MalformedToken:
        return "the key is not base64url"
    except KeyProblem as problem:
        return str(problem)


def _dumped(keys: Iterable[RootKey] | Iterable[AudienceKey | FeedKey]) -> str:
    return "".join(f"{key.line()}\n" for key in keys)
