"""Life and death of authority, as a verifier sees them."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from capx.authority.authority import Authority
from capx.crypto.base64url import b64u
from capx.resource.replay import Replay
from capx.resource.revocations import StoreLiveness
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability, mint
from capx.verify.decision import Denied
from capx.verify.verifier import Verifier
from capx_caveats import Call, Expires, Hop, Root, Step, Task, UntilCompleted, allow, until_completed

READ = ToolCall("crm.read")


@pytest.fixture
def authority() -> Iterator[Authority]:
    with Authority.temporary() as made:
        yield made


@pytest.fixture
def crm(authority: Authority) -> Verifier:
    return authority.verifier("crm")


def answer(verifier: Verifier, held: Bundle | Capability) -> str:
    """Present for crm.read, and give `allowed` or the first reason."""
    token = held.present(READ) if isinstance(held, Capability) else held.present(verifier.audience, READ)
    decision = verifier.decide(token.text, READ, Call("crm.read"))
    return "allowed" if decision.allowed else decision.refusals[0].code


def of_crm(bundle: Bundle) -> Capability:
    return bundle.candidates("crm")[0]


def id_of(node: bytes | None) -> str:
    assert node is not None
    return b64u(node)


class Family:
    """A root with two children, one of which has a child with a child."""

    def __init__(self, authority: Authority) -> None:
        self.task = authority.open(allow=["crm.*", ("crm.read", "tickets")])
        self.root = self.task.bundle
        self.left = self.root.delegate(to="left")
        self.right = self.root.delegate(to="right")
        self.middle = self.left.delegate(to="middle")
        self.leaf = self.middle.delegate(to="leaf")

    def answers(self, verifier: Verifier) -> dict[str, str]:
        members = {name: getattr(self, name) for name in ("root", "left", "right", "middle", "leaf")}
        return {name: answer(verifier, bundle) for name, bundle in members.items()}


def dead(*names: str, reason: str = "revoked") -> dict[str, str]:
    return {name: reason if name in names else "allowed" for name in ("root", "left", "right", "middle", "leaf")}


@pytest.fixture
def family(authority: Authority) -> Family:
    return Family(authority)


def test_all_live_until_something_dies(crm: Verifier, family: Family) -> None:
    assert family.answers(crm) == dead()


@pytest.mark.parametrize(
    ("member", "dying"),
    [
        ("leaf", ["leaf"]),
        ("middle", ["middle", "leaf"]),
        ("left", ["left", "middle", "leaf"]),
        ("right", ["right"]),
        ("root", ["root", "left", "right", "middle", "leaf"]),
    ],
)
def test_with_a_node_dies_exactly_what_lies_below_it(
    authority: Authority, crm: Verifier, family: Family, member: str, dying: list[str]
) -> None:
    family.answers(crm)
    authority.revoke(id_of(getattr(family, member).node))
    assert family.answers(crm) == dead(*dying)
    assert family.answers(authority.verifier("tickets")) == dead(*dying)


@pytest.mark.parametrize(
    ("member", "dying"),
    [
        ("leaf", ["leaf"]),
        ("middle", ["middle", "leaf"]),
        ("root", ["root", "left", "right", "middle", "leaf"]),
    ],
)
def test_with_a_capability_dies_exactly_what_was_made_from_it(
    authority: Authority, crm: Verifier, family: Family, member: str, dying: list[str]
) -> None:
    authority.revoke(b64u(of_crm(getattr(family, member)).id))
    assert family.answers(crm) == dead(*dying)
    assert family.answers(authority.verifier("tickets")) == dead()


def test_a_node_revoked_before_its_first_use_is_dead(authority: Authority, crm: Verifier, family: Family) -> None:
    authority.revoke(id_of(family.middle.node))
    assert family.answers(crm) == dead("middle", "leaf")


def test_with_what_was_minted_dies_all_that_was_made_from_it(
    authority: Authority, crm: Verifier, family: Family
) -> None:
    authority.revoke(b64u(of_crm(family.leaf).ids[0]))
    assert set(family.answers(crm).values()) == {"revoked"}


def test_an_attenuated_copy_is_revoked_without_its_original(
    authority: Authority, crm: Verifier, family: Family
) -> None:
    narrow = of_crm(family.left).attenuate(until_completed("another-task"))
    authority.revoke(b64u(narrow.id))
    assert answer(crm, narrow) == "revoked"
    assert answer(crm, family.left) == "allowed"


def test_a_child_made_offline_after_its_parents_death_is_dead(
    authority: Authority, crm: Verifier, family: Family
) -> None:
    authority.revoke(id_of(family.left.node))
    assert answer(crm, family.left.delegate(to="late")) == "revoked"
    assert answer(crm, family.right.delegate(to="late")) == "allowed"


def test_a_sibling_that_copies_a_hop_nonce_shares_its_nodes_fate(
    authority: Authority, crm: Verifier, family: Family
) -> None:
    nonce = "AAAAAAAAAAE"
    first, copy = (family.root.delegate(to=name, nonce=nonce) for name in ("first", "copy"))
    elsewhere = family.right.delegate(to="elsewhere", nonce=nonce)
    authority.revoke(id_of(first.node))
    assert [answer(crm, bundle) for bundle in (first, copy, elsewhere)] == ["revoked", "revoked", "allowed"]


@pytest.mark.parametrize("end", ["complete", "withdraw"])
def test_a_tasks_end_kills_all_of_it_and_nothing_of_another(
    authority: Authority, crm: Verifier, family: Family, end: str
) -> None:
    other = Family(authority)
    more = authority.mint(family.task.id, allow=["crm.read"])
    family.answers(crm)
    ended = getattr(authority, end)(family.task.id)
    reason = f"task_{ended.end}"
    everyone = dead("root", "left", "right", "middle", "leaf", reason=reason)
    assert family.answers(crm) == family.answers(authority.verifier("tickets")) == everyone
    assert answer(crm, more) == reason
    assert answer(crm, family.leaf.delegate(to="late")) == reason
    assert other.answers(crm) == dead()


def test_what_a_holder_bound_to_another_task_dies_with_it_too(
    authority: Authority, crm: Verifier, family: Family
) -> None:
    other = authority.open(allow=["crm.read"])
    bound = family.left.attenuate(until_completed(other.id))
    assert answer(crm, bound) == "allowed"
    authority.complete(other.id)
    assert answer(crm, bound) == "task_completed"
    assert answer(crm, family.left) == "allowed"


def test_a_cached_chain_dies_as_any_other(authority: Authority, crm: Verifier, family: Family) -> None:
    assert [answer(crm, family.leaf) for _ in range(3)] == ["allowed"] * 3
    authority.revoke(id_of(family.middle.node))
    assert answer(crm, family.leaf) == "revoked"


def test_a_call_in_flight_is_refused_once_its_task_completes(
    authority: Authority, crm: Verifier, family: Family
) -> None:
    admitted = crm.admit(family.leaf.present("crm", READ).text, READ)
    assert admitted.judge(Call("crm.read")).task == family.task.id
    authority.complete(family.task.id)
    with pytest.raises(Denied) as denied:
        admitted.judge(Call("crm.read"))
    assert denied.value.code == "task_completed"


def following(authority: Authority, path: Path, max_staleness: float) -> Verifier:
    return Verifier(
        "crm",
        authority.export_keys("crm"),
        liveness=StoreLiveness(path),
        replay=Replay.process(clock=lambda: 0.0),
        max_staleness=max_staleness,
    )


def test_before_anything_is_known_of_deaths_nothing_is_allowed(
    authority: Authority, family: Family, tmp_path: Path
) -> None:
    assert answer(following(authority, tmp_path / "none.db", 30), family.root) == "unknown_liveness"


def test_all_is_refused_once_the_store_is_away_for_too_long(authority: Authority, family: Family) -> None:
    store = Path(authority.store.place)
    crm = following(authority, store, 0.2)
    assert answer(crm, family.root) == "allowed"
    store.rename(store.with_name("away.db"))
    assert answer(crm, family.root) == "allowed"
    time.sleep(0.25)
    assert answer(crm, family.root) == "stale_liveness"
    store.with_name("away.db").rename(store)
    time.sleep(0.03)
    assert answer(crm, family.root) == "allowed"
    authority.complete(family.task.id)
    time.sleep(0.03)
    assert answer(crm, family.root) == "task_completed"


def test_an_older_copy_of_the_store_brings_nothing_back_to_life(
    authority: Authority, family: Family, tmp_path: Path
) -> None:
    store = Path(authority.store.place)
    other = authority.open(allow=["crm.read"]).bundle
    home = tmp_path / "older"
    home.mkdir()
    for file in store.parent.iterdir():
        (home / file.name).write_bytes(file.read_bytes())
    crm = following(authority, store, 0.2)
    authority.complete(family.task.id)
    assert answer(crm, family.root) == "task_completed"
    for file in home.iterdir():
        file.replace(store.parent / file.name)
    time.sleep(0.25)
    assert answer(crm, family.root) == "task_completed"
    assert answer(crm, other) == "stale_liveness"


SERVICE = """
import sys, time
from pathlib import Path
from capx.crypto.keys import AudienceKeys
from capx.resource.revocations import StoreLiveness
from capx.tokens.binding import ToolCall
from capx.resource.replay import Replay
from capx.store.sqlite.store import SQLiteStore
from capx.verify.verifier import Verifier
from capx_caveats import Call
keys, path = AudienceKeys.load(Path(sys.argv[1])), sys.argv[2]
crm = Verifier("crm", keys, liveness=StoreLiveness(path), replay=Replay.store(SQLiteStore(path)))
print("ready", flush=True)
for line in sys.stdin:
    decision = crm.decide(line.strip(), ToolCall("crm.read"), Call("crm.read"))
    print("allowed" if decision.allowed else decision.refusals[0].code, flush=True)
"""


class Service:
    """A verifier in a process of its own, that holds its audience's key alone."""

    def __init__(self, keys: Path, store: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", SERVICE, str(keys), str(store)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def answer(self, bundle: Bundle) -> str:
        return self.answer_text(bundle.present("crm", READ).text)

    def answer_text(self, token: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{token}\n")
        self.process.stdin.flush()
        return self._line()

    def close(self) -> None:
        self.process.communicate(timeout=10)


@pytest.fixture
def service(authority: Authority, tmp_path: Path) -> Iterator[Service]:
    authority.export_keys("crm").save(tmp_path / "crm.keys")
    made = Service(tmp_path / "crm.keys", Path(authority.store.place))
    yield made
    made.close()


@pytest.mark.parametrize("end", ["complete", "withdraw", "revoke"])
def test_another_process_refuses_within_50_ms_of_the_end(authority: Authority, service: Service, end: str) -> None:
    delays: list[float] = []
    for _ in range(15):
        opened = authority.open(allow=["crm.read"])
        child = opened.bundle.delegate(to="child")
        assert service.answer(child) == "allowed"
        getattr(authority, end)(opened.id)
        ended = time.monotonic()
        while service.answer(child) == "allowed":
            assert time.monotonic() - ended < 5
        delays.append(time.monotonic() - ended)
    assert sorted(delays)[len(delays) // 2] < 0.05


def test_a_presentation_used_at_one_process_is_used_at_all(
    authority: Authority, crm: Verifier, service: Service, tmp_path: Path
) -> None:
    opened = authority.open(allow=["crm.read"])
    token = opened.bundle.present("crm", READ).text
    assert service.answer_text(token) == "allowed"
    assert service.answer_text(token) == "replayed"
    assert crm.decide(token, READ, Call("crm.read")).refusals[0].code == "replayed"
    restarted = Service(tmp_path / "crm.keys", Path(authority.store.place))
    assert restarted.answer_text(token) == "replayed"
    restarted.close()


def granted_at(authority: Authority, family: Family, asker: Bundle, audience: str = "crm") -> Capability:
    """What an authority mints at run time for an agent further down: its path begins where the agent is."""
    (held,) = (capability for capability in asker if capability.audience == audience)
    hops = (block[0] for block in held.caveats[1:])
    steps = tuple(Step(hop.to, hop.nonce) for hop in hops if isinstance(hop, Hop))
    key = authority.export_keys(audience).get(held.kid)
    assert key is not None
    task = family.task
    grant = (Task(task.id), Root(task.root, steps), UntilCompleted(task.id), Expires(task.expires), allow("crm.read"))
    return mint(key, grant, now=held.issued_at)


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("member", ["root", "left", "middle"])
def test_a_runtime_grant_dies_with_a_node_on_the_askers_path(
    authority: Authority, crm: Verifier, family: Family, member: str, *, warm: bool
) -> None:
    granted = granted_at(authority, family, family.middle)
    below = granted.delegate(to="below")
    assert granted.node == family.middle.node
    if warm:
        assert [answer(crm, held) for held in (granted, below)] == ["allowed"] * 2
    authority.revoke(id_of(getattr(family, member).node))
    late = granted_at(authority, family, family.middle)
    assert [answer(crm, held) for held in (granted, below, late, late.delegate(to="late"))] == ["revoked"] * 4


def test_a_runtime_grant_outlives_what_is_not_on_its_path(authority: Authority, crm: Verifier, family: Family) -> None:
    granted = granted_at(authority, family, family.middle)
    for other in (family.leaf, family.right):
        authority.revoke(id_of(other.node))
    authority.revoke(b64u(of_crm(family.middle).id))
    assert answer(crm, granted) == "allowed"


def test_an_unused_capability_elsewhere_is_dead_with_its_node(
    authority: Authority, crm: Verifier, family: Family
) -> None:
    tickets = authority.verifier("tickets")
    granted = granted_at(authority, family, family.left, "tickets")
    assert answer(crm, family.left) == "allowed"
    authority.revoke(id_of(family.left.node))
    assert [answer(tickets, held) for held in (family.left, family.leaf, granted)] == ["revoked"] * 3
    assert answer(tickets, family.right) == "allowed"
