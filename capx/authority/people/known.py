"""Which authority is at which place, as a person has confirmed it once.

    https://capx.example OYZ7VqUQJ9PBa0YXjDBPsw     a line of the file `known`, which lies beside the key

Law: an authority that is known at one place is not at another, and a place has one authority. Otherwise a hostile
authority could give itself out for another one, and have people sign intents for that.
"""

from collections.abc import Iterator
from os import SEEK_END
from pathlib import Path
from typing import Final

from capx.api.person_auth import demand_origin
from capx.crypto import private_file
from capx.crypto.base64url import is_bytes
from capx.errors import ConfigurationProblem, InvalidRequest

FILE: Final = "known"
"""The name of the file, in the folder of the key."""
_LARGEST: Final = 1 << 20


class UnknownAuthority(InvalidRequest):
    """Nobody has confirmed which authority is at a place: `origin`, and the id that it says it has."""

    def __init__(self, origin: str, authority: str) -> None:
        super().__init__(
            f"nobody has confirmed that {origin} is the authority {authority}: ask its operator, who sees its id with "
            f"capx doctor, and then trust it by that id"
        )
        self.origin = origin
        self.authority = authority

    def __reduce__(self) -> tuple[type, tuple[str, str], dict[str, object]]:
        return type(self), (self.origin, self.authority), vars(self)


class OtherAuthority(ConfigurationProblem):
    """Another authority is at a place than the one that a person has confirmed there, or a known one is elsewhere."""


class KnownAuthorities:
    """The authorities that a person knows, by place; kept in a file if there is one."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._ids = {} if path is None else dict(_read(path))

    def demand(self, origin: str, authority: str, *, trust: str | None = None) -> None:
        """Raise UnknownAuthority or OtherAuthority unless this authority is known at this place.

        `trust` is the id that the person confirms now: it becomes known. If another authority answers, it is refused,
        also where this one is known.
        """
        if trust is not None and trust != authority:
            raise OtherAuthority(f"{origin} says that it is the authority {authority}, and not {trust:.80}")
        if not self._knows(origin, authority):
            if trust is None:
                raise UnknownAuthority(origin, authority)
            self._add(origin, authority)

    def _knows(self, origin: str, authority: str) -> bool:
        """Whether this authority is known at this place; OtherAuthority if either of them is known otherwise."""
        if (known := self._ids.get(origin)) is not None and known != authority:
            raise OtherAuthority(
                f"{origin} says that it is the authority {authority}, and you know {known} there. Do not sign anything "
                f"for it. If it was really exchanged, take its line out of {self._path or 'what you trust'}"
            )
        elsewhere = next((place for place, one in self._ids.items() if one == authority and place != origin), None)
        if elsewhere is not None:
            raise OtherAuthority(
                f"{origin} says that it is the authority {authority}, which you know at {elsewhere}. If it was really "
                f"moved, take its line out of {self._path or 'what you trust'}"
            )
        return known is not None

    def _add(self, origin: str, authority: str) -> None:
        if self._path is None:
            self._ids[origin] = authority
            return
        with private_file.locked(self._path, ConfigurationProblem):
            # Another process may have added a line since the file was read.
            self._ids = dict(_read(self._path))
            if not self._knows(origin, authority):
                _append(self._path, f"{origin} {authority}\n")
                self._ids[origin] = authority


def _append(path: Path, line: str) -> None:
    """Add a line to a file, also behind one that lacks its newline."""
    with private_file.explained(ConfigurationProblem, f"cannot write {path}"):
        path.touch(mode=0o600)
        with path.open("rb+") as file:
            if file.seek(0, SEEK_END):
                file.seek(-1, SEEK_END)
                if file.read(1) != b"\n":
                    line = f"\n{line}"
            file.write(line.encode("ascii"))


def _read(path: Path) -> Iterator[tuple[str, str]]:
    try:
        _, data = private_file.read_trusted(path, ConfigurationProblem, "list of known authorities", _LARGEST + 1)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigurationProblem(f"cannot read {path}: {error.strerror}") from None
    if len(data) > _LARGEST:
        raise ConfigurationProblem(f"{path} is too large for a list of known authorities")
    origins: dict[str, int] = {}
    authorities: dict[str, int] = {}
    for number, line in enumerate(data.decode("ascii", "replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        origin, _, authority = line.partition(" ")
        try:
            demand_origin(origin)
        except InvalidRequest as error:
            raise ConfigurationProblem(f"{path}, line {number}: {error}") from None
        if not is_bytes(authority, 16):
            raise ConfigurationProblem(f"{path}, line {number}: wanted `ORIGIN AUTHORITY`, with the id of an authority")
        for one, seen in ((origin, origins), (authority, authorities)):
            if (first := seen.setdefault(one, number)) != number:
                raise ConfigurationProblem(
                    f"{path}, line {number}: {one} is in line {first} already. A place has one authority, and an "
                    "authority one place: take out the line that is wrong"
                )
        yield origin, authority
