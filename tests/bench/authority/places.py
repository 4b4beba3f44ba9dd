"""Where the authority is measured: a store in a file, a store in a PostgreSQL that is as durable as one in service, and
`capx serve` as a process of its own; and beside both stores a bare one, which is asked for the same commits.

Law: what cannot be had here is told with its reason, and the rest is measured.
"""

import itertools
import os
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from capx import Authority, KeyRing, RootKey
from capx.authority.remote.client import RemoteAuthority
from capx.policy.file import FILE
from capx.store.factory import create_store, open_store
from capx.store.sqlite.store import SQLiteStore
from tests.bench.authority.bare import make_bare
from tests.bench.authority.figures import FEED, POSTGRES, SQLITE
from tests.bench.authority.source import Source
from tests.bench.measuring import Unmeasurable

if TYPE_CHECKING:
    from tests.labs.postgres import Server

AUDIENCE: Final = "crm"
_NUMBERS: Final = itertools.count(1)


class Place(Struct, frozen=True):
    """An authority, and how it is followed."""

    authority: Authority | RemoteAuthority
    source: Source


class Places:
    """Makes places, in a folder and in one database server, for as long as the block lasts that it is opened in."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.missing: dict[str, str] = {}
        self._stack = stack
        self._server = self._started()

    @property
    def stores(self) -> list[str]:
        """The stores that can be had here."""
        return [SQLITE] if self._server is None else [SQLITE, POSTGRES]

    def file_systems(self) -> str:
        """The kinds of file systems on which the stores are; Unmeasurable where nobody tells."""
        folders = [self.folder, *([] if self._server is None else [self._server.folder])]
        try:
            kinds = sorted(set(map(_file_system, folders)))
        except OSError:
            raise Unmeasurable("what file system the stores are on is not told here") from None
        return " and ".join(kinds)

    def new(self, who: str) -> str:
        """Where there is a store that is new, and empty."""
        address = self._address(who)
        create_store(address).close()
        return address

    def new_bare(self, who: str) -> str:
        """Where there is the table of a bare store."""
        address = self._address(who)
        make_bare(address)
        return address

    def _address(self, who: str) -> str:
        if who == SQLITE:
            return str(self.folder / f"{next(_NUMBERS)}.db")
        assert self._server is not None
        return self._server.url(self._server.database())

    @contextmanager
    def authority(self, who: str, **settings: Any) -> Generator[Place]:
        """An authority over a new store; `settings` as for `Authority`."""
        address = self.new(who)
        with Authority(open_store(address), KeyRing(RootKey.generate()), **settings) as authority:
            yield Place(authority, Source(who, address, self._exported(authority.keyring)))

    @contextmanager
    def local(self, who: str, **settings: Any) -> Generator[Authority]:
        """The authority of such a place, which is one of this process."""
        with self.authority(who, **settings) as place:
            assert isinstance(place.authority, Authority)
            yield place.authority

    @contextmanager
    def served(self, fill: Callable[[Path], object] = lambda store: None, policy: str = "") -> Generator[Place]:
        """`capx serve` over a new home, whose store may be filled before, and which goes by this policy, if any."""
        from tests.server.conftest import serving

        home = self.folder / f"home-{next(_NUMBERS)}"
        with Authority.create_home(home) as made:
            keys = self._exported(made.keyring)
        fill(home / "capx.db")
        if policy:
            (home / FILE).touch(mode=0o600)
            (home / FILE).write_text(policy, encoding="utf-8")
        with ExitStack() as stack:
            try:
                served = stack.enter_context(serving(home))
            except AssertionError as error:
                raise Unmeasurable(f"capx serve does not start: {error}") from None
            authority = stack.enter_context(RemoteAuthority(served.place))
            yield Place(authority, Source(FEED, served.url, keys))

    def _exported(self, ring: KeyRing) -> Path:
        path = self.folder / f"{next(_NUMBERS)}.keys"
        ring.exported(AUDIENCE).save(path)
        return path

    def _started(self) -> "Server | None":
        try:
            from tests.labs.postgres import Server

            return self._stack.enter_context(Server(fsync="on"))
        except (ImportError, AssertionError, OSError) as error:
            self.missing[POSTGRES] = str(error)
        return None


def _file_system(folder: Path) -> str:
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    found = [
        (len(point), kind)
        for _, point, kind, *_ in map(str.split, mounts)
        if os.path.commonpath([point, folder.resolve()]) == point
    ]
    return max(found)[1]


def bury(path: Path, count: int, now: int) -> None:
    """Let so many die in the store at `path` of whom nobody here descends."""
    with closing(SQLiteStore(path)) as store, store.write() as writing:
        position = writing.append("note", b"{}", at=now).position
        for _ in range(count):
            writing.kill(os.urandom(16), "revoked", at=now, position=position)
