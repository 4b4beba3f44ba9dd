"""A store of either kind, its authority, and a service that follows it while it is replaced.

Nothing is faked but how long the service has been up.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from capx.authority.authority import Authority
from capx.authority.restore import Restoration, restore
from capx.crypto.base64url import b64u
from capx.crypto.canonical_json import canonical
from capx.crypto.keys import KeyRing, RootKey
from capx.intents.intent import Intent
from capx.resource.replay import Replay
from capx.resource.revocations import StoreLiveness
from capx.store.factory import open_store
from capx.store.records import IntentRecord, RequestRecord
from capx.store.sqlite.store import SQLiteStore
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.verify.verifier import Verifier
from capx_caveats import Call
from tests.labs.commands import start_program

if TYPE_CHECKING:
    from capx.store.protocols import Store


KEYS = KeyRing(RootKey(bytes(range(32))))
LEAKED = "AAAAAAAAAAA"


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new store is, as text."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    path = tmp_path / "capx.db"
    SQLiteStore.create(path).close()
    return str(path)


@pytest.fixture
def authority(place: str) -> Iterator[Authority]:
    with Authority(open_store(place), KEYS) as made:
        yield made


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return tmp_path / "saved.db"


class Service:
    """A service that is there all the time, and follows the store by itself."""

    def __init__(self, place: str) -> None:
        self.store: Store = open_store(place)
        self.liveness = StoreLiveness(self.store.source(), poll=0)
        # As if it had been up for long.
        replay = Replay.process(clock=lambda: 0)
        self.verifier = Verifier("crm", KEYS.audience_keys("crm"), liveness=self.liveness, replay=replay)

    def codes(self, bundle: Bundle) -> list[str]:
        received = ToolCall("crm.read")
        token = bundle.present("crm", received).text
        return [one.code for one in self.verifier.decide(token, received, Call("crm.read")).refusals]

    def close(self) -> None:
        self.liveness.close()
        self.store.close()


@pytest.fixture
def service(place: str) -> Iterator[Service]:
    made = Service(place)
    yield made
    made.close()


def brought_back(saved: Path, place: str, tmp_path: Path) -> Restoration:
    return restore(saved, place, keep=None if place.endswith(".db") else tmp_path / "kept.db")


def an_intent(*, opened: int = 1, withdrawn: int | None = None, attested: str | None = None) -> IntentRecord:
    """One as it is kept, which nobody signed."""
    intent = Intent(
        principal="ana@our.example",
        authority="origin.1",
        purpose="refund",
        statement="Refund Zoë\nwhat T-1 says",
        max_tasks=2,
        issued=1,
        not_after=2_000_000_000,
        nonce=b64u(os.urandom(16)),
        parameters={"ticket": "T-1 \0", "amounts": (0.01, 50), "urgent": True},
    )
    document = canonical(intent.document()).decode()
    proof = b64u(os.urandom(64)) if attested is None else f"attested: {attested}"
    return IntentRecord(intent.digest, intent.principal, document, proof, opened, withdrawn)


def a_request(task: str) -> RequestRecord:
    return RequestRecord(
        id=b64u(os.urandom(16)),
        task=task,
        audience="crm",
        action="crm.read",
        args=None,
        ids=("A" * 22,),
        kid=LEAKED,
        issued=1,
        path=("B" * 22,),
        labels=(),
        block="[]",
        principal="ana",
        asked=1,
        until=2_000_000_000,
    )


RESTORING = """
import os, signal, sys
from pathlib import Path
from capx.authority.restore import restore
left = int(sys.argv[3]) if len(sys.argv) > 3 else -1
def step(event, _):
    global left
    if event in {"os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree", "sqlite3.connect"}:
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(step)
print("begun", flush=True)
restore(Path(sys.argv[1]), sys.argv[2])
"""


def killed_at(step: int, saved: Path, path: Path) -> bool:
    """Restore in a process that is killed before its n-th change of files; return whether it got that far."""
    process = start_program(RESTORING, saved, path, step)
    process.communicate(timeout=60)
    return process.wait() == -signal.SIGKILL
