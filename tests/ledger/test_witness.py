"""A witness cosigns what goes on from what it has cosigned, and nothing else, whatever was lost or killed."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import pytest

from capx.crypto.ed25519 import Signer
from capx.errors import ConfigurationProblem
from capx.ledger.checkpoint import Checkpoint, signed
from capx.ledger.note import Note, NoteSigner
from capx.ledger.note_keys import LedgerKey, WitnessKey
from capx.ledger.tree import consistency_path, full_run, leaf_hash, root
from capx.ledger.witness import AddCheckpoint, NotCosigned, OtherSize, SplitView, WitnessState
from tests.labs.counts import repeated

NOW = 1_800_000_000
LOG = NoteSigner("capx/example.1", Signer(bytes(range(32))))
OTHER = NoteSigner("capx/example.1", Signer(bytes(range(1, 33))))
WITNESS = WitnessKey("witness.example/w1", Signer(bytes(range(2, 34))))
ENTRIES = [sha256(bytes([each])).digest() for each in range(120)]


class Log:
    """A log that may tell two histories: `changed` is the entry from which this one is another."""

    def __init__(self, changed: int | None = None, origin: str = "capx/example.1") -> None:
        self.origin = origin
        self.entries = [*ENTRIES]
        if changed is not None:
            self.entries[changed] = bytes(32)

    def run(self, level: int, nth: int) -> bytes:
        return full_run(list(map(leaf_hash, self.entries[nth << level : (nth + 1) << level])))

    def note(self, size: int, signers: Sequence[NoteSigner] = (LOG,)) -> str:
        return signed(Checkpoint(self.origin, size, root(size, self.run)), signers).dump()

    def request(self, old: int, size: int) -> AddCheckpoint:
        return AddCheckpoint(old, tuple(consistency_path(old, size, self.run)), self.note(size))


@pytest.fixture
def state(tmp_path: Path) -> WitnessState:
    made = WitnessState(tmp_path / "w.state")
    made.create()
    return made


def cosign(state: WitnessState, request: AddCheckpoint, logs: Sequence[NoteSigner] = (LOG,)) -> str:
    return state.cosign(request, WITNESS.cosigner, [one.key for one in logs], now=NOW)


def test_a_log_that_grows_is_cosigned(state: WitnessState) -> None:
    for old, size in ((0, 7), (7, 64), (64, 64), (64, 100)):
        request = Log().request(old, size)
        line = cosign(state, AddCheckpoint.parse(request.text()))
        note = Note.parse(request.note).with_lines([line])
        ((key, found),) = note.signed_by([WITNESS.note_key])
        assert (key, found.time) == (WITNESS.note_key, NOW)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (Log().request(0, 5), 409),
        (Log().request(9, 12), 409),
        (Log().request(11, 12), 409),
        (Log(changed=3).request(10, 12), 422),
        (Log(changed=10).request(10, 10), 0),
        (AddCheckpoint(10, (), Log().note(12)), 422),
        (AddCheckpoint(10, Log().request(10, 12).path[:-1], Log().note(12)), 422),
        (AddCheckpoint(10, (*Log().request(10, 12).path, bytes(32)), Log().note(12)), 422),
        (AddCheckpoint(13, (), Log().note(12)), 400),
        (AddCheckpoint(10, (), "no note"), 400),
        (AddCheckpoint(10, (), Note(f"{Log().origin}\n", ()).with_lines([LOG.line("x")]).dump()), 400),
        (AddCheckpoint(10, (), Log().note(12, [OTHER])), 403),
        (Log(origin="capx/example.2").request(0, 12), 404),
        (Log(origin="capx/example.1x").request(0, 12), 404),
    ],
)
def test_what_does_not_go_on_is_not_cosigned(state: WitnessState, request_: AddCheckpoint, status: int) -> None:
    cosign(state, Log().request(0, 10))
    if status == 0:
        assert cosign(state, request_)
        return
    with pytest.raises(NotCosigned) as caught:
        cosign(state, request_)
    assert caught.value.status == status
    # Nothing is lost: what goes on is cosigned still.
    assert cosign(state, Log().request(10, 12))


def test_a_smaller_tree_is_told_the_size(state: WitnessState) -> None:
    cosign(state, Log().request(0, 10))
    with pytest.raises(OtherSize) as caught:
        cosign(state, Log().request(0, 9))
    assert caught.value.size == 10
    assert pickle.loads(pickle.dumps(caught.value)).size == 10


def test_two_roots_of_one_size_are_shown_as_evidence(state: WitnessState) -> None:
    cosign(state, Log().request(0, 10))
    fork = Log(changed=3)
    with pytest.raises(SplitView) as caught:
        cosign(state, fork.request(10, 10))
    assert (caught.value.cosigned, caught.value.shown) == (Log().note(10), fork.note(10))
    for note in (caught.value.cosigned, caught.value.shown):
        assert Note.parse(note).signed_by([LOG.key])
    assert pickle.loads(pickle.dumps(caught.value)).shown == fork.note(10)


def test_one_key_may_sign_for_several_logs_below_its_name(state: WitnessState) -> None:
    ledger = LedgerKey("capx-ledger/crm", Signer(bytes(range(3, 35))))
    for origin in ("capx-ledger/crm/one", "capx-ledger/crm/two"):
        log = Log(origin=origin)
        request = AddCheckpoint(0, (), log.note(5, [ledger.signer]))
        assert cosign(state, request, [LOG, ledger.signer])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "old 1",
        "old -1\n\n",
        "old 01\n\n",
        "old 9007199254740993\n\n",
        "old " + "9" * 5_000 + "\n\n",
        "new 1\n\nx",
        "old 1\nAAAA\n\nx",
        "old 1\nnothing\n\nx",
        "old 1\n" + "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n" * 64 + "\nx",
        "old 1\n\n" + "x" * 80_000,
        "old \u0661\n\nx",
    ],
)
def test_another_text_is_no_request(text: str) -> None:
    with pytest.raises(NotCosigned) as caught:
        AddCheckpoint.parse(text)
    assert caught.value.status == 400


def test_a_lost_state_is_not_made_anew(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationProblem, match="is missing"):
        cosign(WitnessState(tmp_path / "w.state"), Log().request(0, 10))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "held",
    [
        b"",
        b"{}",
        b'{"capx_witness":2,"logs":{}}',
        b'{"capx_witness":1,"logs":{"capx/example.1":"x"}}',
        b'{"capx_witness":1,"logs":{},"logs":{}}',
        b'{"capx_witness":1,"logs":{"capx/example.2":"%s"}}' % Log().note(3).replace("\n", "\\n").encode(),
        b"[" * 100_000,
    ],
)
def test_a_damaged_state_cosigns_nothing(tmp_path: Path, held: bytes) -> None:
    file = tmp_path / "w.state"
    file.write_bytes(held)
    file.chmod(0o600)
    with pytest.raises(ConfigurationProblem, match="is not the state of a witness"):
        cosign(WitnessState(file), Log().request(0, 10))
    assert file.read_bytes() == held


def test_a_state_is_never_overwritten(state: WitnessState, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationProblem, match="there already"):
        WitnessState(tmp_path / "w.state").create()
    assert cosign(state, Log().request(0, 10))


# Cosigns larger and larger trees, and writes down each line before it takes the next.
CHILD = """
import sys
from pathlib import Path
from capx.ledger.witness import WitnessState
from tests.ledger.test_witness import LOG, Log, WITNESS, NOW
state = WitnessState(Path(sys.argv[1]))
old = int(sys.argv[2])
for size in range(old + 1, 101):
    line = state.cosign(Log().request(old, size), WITNESS.cosigner, [LOG.key], now=NOW)
    print(size, line, end="", flush=True)
    old = size
"""


@pytest.mark.timeout(900)  # two hundred processes at night
def test_a_killed_witness_has_cosigned_what_its_state_says(state: WitnessState, tmp_path: Path) -> None:
    given = 0
    for nth in range(repeated(200)):
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path / "w.state"), str(given)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            # The first line says that it is at work; then any instant will do.
            lines = [child.stdout.readline()]
            time.sleep((nth * 7 % 13) / 1_000)
            os.kill(child.pid, signal.SIGKILL)
            lines += child.stdout.readlines()
        given = max([given, *(int(line.split()[0]) for line in lines if line.endswith("\n"))])
        # A second history from the entry that was cosigned last: whatever the witness did last, it is refused.
        with pytest.raises(OtherSize) as caught:
            cosign(state, Log(changed=0).request(max(0, given - 1), 120))
        # What was given out is in the state, which may be one ahead.
        assert given <= caught.value.size <= given + 1
        given = caught.value.size
        with pytest.raises(NotCosigned, match="goes on from"):
            cosign(state, Log(changed=0).request(given, 120))
        if given > 90:
            (tmp_path / "w.state").unlink()
            state.create()
            given = 0
