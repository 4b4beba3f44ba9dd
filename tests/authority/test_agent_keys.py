"""Which key of an agent a task names, and the keys that the authority never names again."""

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from nacl import bindings

from capx.api.messages.base import RequestBody, decode_body, encode
from capx.authority.authority import Authority
from capx.authority.remote.messages import OpenTask, Revoke
from capx.crypto.agent_key import AgentKey
from capx.crypto.base64url import b64u
from capx.errors import InvalidRequest
from capx.policy.file import read_policy
from capx.policy.policy import MAX_TTL
from capx.resource.feed.page import sign_page
from capx.resource.feed.reader import PageReader
from capx.resource.revocations import View
from capx.store.records import KEPT_BEYOND_TTL
from capx.tokens.revocation_key import of_public
from capx_caveats import Holder
from tests.labs.granting_lab import ANA, GrantingLab, rule
from tests.labs.policies import granting
from tests.labs.timed_authority import Clock, refused

if TYPE_CHECKING:
    from collections.abc import Callable

PLANNER, OTHER = AgentKey.generate("planner"), AgentKey.generate("other")
DAY = 86_400
READ = rule("at_open", "crm.read")
GOOD_POINT = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
POINT_OF_ORDER_8 = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
NO_POINTS = {
    "all zeros": bytes(32),
    "too short": GOOD_POINT[:31],
    "of small order": POINT_OF_ORDER_8,
    "of mixed order": bindings.crypto_core_ed25519_add(GOOD_POINT, POINT_OF_ORDER_8),
    "not canonical": b"\xee" + 30 * b"\xff" + b"\x7f",
}
NO_KEYS = {
    "empty": "",
    "a name": "planner",
    "without its algorithm": PLANNER.public.removeprefix("ed25519:"),
    "in capitals": PLANNER.public.upper(),
    "padded": f"{PLANNER.public}=",
    "with a space": f"{PLANNER.public} ",
    **{name: f"ed25519:{b64u(point)}" for name, point in NO_POINTS.items()},
}


@pytest.fixture
def people() -> GrantingLab:
    return GrantingLab(READ)


def test_each_capability_of_a_keyed_task_names_its_key(authority: Authority) -> None:
    opened = authority.open(allow=["crm.read", "slides.write"], agent_key=PLANNER.public)
    more = authority.mint(opened.id, allow=["mail.send"])
    holder = Holder(PLANNER.public.removeprefix("ed25519:"))
    assert [holder in one.caveats[0] for one in (*opened.bundle, *more)] == [True] * 4
    assert {one.audience for one in opened.bundle} == {"crm", "slides", "authority"}
    assert opened.holder == authority.task(opened.id).holder == opened.bundle.holder == PLANNER.public
    assert next(authority.log()).facts()["holder"] == PLANNER.public
    assert authority.graph(opened.id).trees[0].holder == PLANNER.public
    assert refused(authority, opened.bundle.with_key(PLANNER)) == []
    authority.check()


def test_a_task_without_a_key_says_so(authority: Authority) -> None:
    opened = authority.open(allow=["crm.read"])
    assert opened.holder is authority.task(opened.id).holder is opened.bundle.holder is None
    assert next(authority.log()).facts()["holder"] is None
    assert refused(authority, opened.bundle) == []


@pytest.mark.parametrize("text", NO_KEYS.values(), ids=NO_KEYS)
def test_what_is_no_safe_key_opens_nothing(authority: Authority, text: str) -> None:
    with pytest.raises(InvalidRequest, match="key"):
        authority.open(allow=["crm.read"], agent_key=text)
    with pytest.raises(InvalidRequest, match="key"):
        authority.revoke(key=text)
    assert list(authority.log()) == []


def test_the_key_of_an_intent_is_the_key_of_its_task(people: GrantingLab) -> None:
    said, silent = (people.intent(max_tasks=3, agent_key=key) for key in (PLANNER.public, None))
    for given in (None, PLANNER.public):
        assert people.authority.open(ANA.sign_intent(said), agent_key=given).holder == PLANNER.public
    with pytest.raises(InvalidRequest, match=f"names the key {PLANNER.public}"):
        people.authority.open(ANA.sign_intent(said), agent_key=OTHER.public)
    assert people.authority.open(ANA.sign_intent(silent)).holder is None
    # Whoever opens it could use its tokens anyway: a key takes something away, and gives nothing.
    assert people.authority.open(ANA.sign_intent(silent), agent_key=OTHER.public).holder == OTHER.public
    assert [intent.opened for intent in people.authority.intents()] == [2, 2]


def test_a_purpose_may_open_only_for_a_key_that_was_signed(people: GrantingLab) -> None:
    text = granting('allow = ["crm.read"]', 'require = ["agent_key"]')
    people.policy = read_policy(text.replace("[principal.ana]", f'[principal.ana]\nkey = "{ANA.public}"'))
    with pytest.raises(InvalidRequest, match='work needs "agent_key"'):
        people.authority.open(ANA.sign_intent(people.intent()), agent_key=PLANNER.public)
    assert people.open(agent_key=PLANNER.public).holder == PLANNER.public


def test_nothing_is_bound_to_a_revoked_key(authority: Authority, people: GrantingLab) -> None:
    opened = authority.open(allow=["crm.read"], agent_key=PLANNER.public)
    assert authority.kids() == {opened.bundle.candidates("crm")[0].kid: 1}
    authority.revoke(key=PLANNER.public)
    assert authority.kids() == {opened.bundle.candidates("crm")[0].kid: 0}
    for act in (
        lambda: authority.open(allow=["crm.read"], agent_key=PLANNER.public),
        lambda: authority.mint(opened.id, allow=["crm.write"]),
    ):
        with pytest.raises(InvalidRequest, match="was revoked, and nothing is bound or sealed to it"):
            act()
    assert authority.open(allow=["crm.read"], agent_key=OTHER.public).holder == OTHER.public
    people.authority.revoke(key=PLANNER.public)
    with pytest.raises(InvalidRequest, match="was revoked, and nothing is bound or sealed to it"):
        people.open(agent_key=PLANNER.public)
    assert people.authority.intents() == []


def test_nothing_is_sealed_to_a_revoked_key(authority: Authority) -> None:
    authority.revoke(key=PLANNER.public)
    with pytest.raises(InvalidRequest, match="was revoked, and nothing is bound or sealed to it"):
        authority.export_keys("crm", seal_to=PLANNER.public)
    assert authority.export_keys("crm", seal_to=OTHER.public).dump() == authority.export_keys("crm").dump()


def test_the_key_of_a_person_is_no_agents(people: GrantingLab) -> None:
    acts: list[Callable[[], object]] = [
        lambda: people.open(agent_key=ANA.public),
        lambda: people.authority.open(allow=["crm.read"], agent_key=ANA.public),
        lambda: people.authority.open(ANA.sign_intent(people.intent(agent_key=ANA.public))),
    ]
    for act in acts:
        with pytest.raises(InvalidRequest, match='is the key of "ana" in the policy, and no agent'):
            act()
    assert people.authority.tasks() == []


def forget(authority: Authority, clock: Clock) -> int:
    """How many deaths are forgotten when all tokens of today have expired and a day has passed."""
    clock.now += MAX_TTL + KEPT_BEYOND_TTL + 1
    authority.open(allow=["a.b"], expires="1s")
    clock.now += DAY
    return authority.prune().deaths


def test_a_key_dies_anew_when_its_death_is_forgotten(clock: Clock, authority: Authority) -> None:
    authority.revoke(key=PLANNER.public)
    first = kills(authority)
    for _ in range(3):
        assert forget(authority, clock) > 0
        assert authority.prune().deaths == 0
        with authority.store.read() as reading:
            death = reading.death(of_public(PLANNER.public))
            assert death is not None
            assert death.seq > reading.head().forgotten
        with pytest.raises(InvalidRequest, match="was revoked"):
            authority.open(allow=["crm.read"], agent_key=PLANNER.public)
        authority.check()
    times = kills(authority)
    assert times[:1] == first
    assert len(times) == 4
    assert all(later - earlier > MAX_TTL for earlier, later in pairwise(times))


def kills(authority: Authority) -> list[int]:
    """When the key was killed."""
    return [event.at for event in authority.log() if event.facts().get("key") == PLANNER.public]


def test_a_key_whose_bare_id_was_revoked_first_stays_dead(clock: Clock, authority: Authority) -> None:
    authority.revoke(b64u(of_public(PLANNER.public)))
    for _ in range(2):
        # The second time, the log names the key already.
        (killed,) = authority.revoke(key=PLANNER.public).killed
        assert killed.again
    assert len(kills(authority)) == 1
    for _ in range(2):
        assert forget(authority, clock) > 0
        with pytest.raises(InvalidRequest, match="was revoked"):
            authority.open(allow=["crm.read"], agent_key=PLANNER.public)
    authority.check()


def test_only_keys_that_are_forgotten_die_anew(clock: Clock, authority: Authority) -> None:
    authority.revoke(key=PLANNER.public)
    authority.revoke(authority.open(allow=["a.b"]).bundle)
    clock.now += MAX_TTL + KEPT_BEYOND_TTL + 1
    authority.revoke(key=OTHER.public)
    clock.now += DAY
    assert authority.prune().deaths == 2
    keys = [event.facts()["key"] for event in authority.log() if event.facts().get("key")]
    assert keys == [PLANNER.public, OTHER.public, PLANNER.public]
    with authority.store.read() as reading:
        assert [one.key for one in reading.deaths() if isinstance(one.key, bytes)] == [
            of_public(OTHER.public),
            of_public(PLANNER.public),
        ]


def test_a_key_that_was_never_seen_can_be_revoked(authority: Authority) -> None:
    assert authority.revoke(key=OTHER.public, dry_run=True).dying is not None
    assert list(authority.log()) == []
    first = authority.revoke(key=OTHER.public)
    again = authority.revoke(key=OTHER.public)
    (killed,) = first.killed
    assert (killed.key, killed.again, again.killed[0].again) == (OTHER.public, False, True)
    (event,) = authority.log()
    assert event.facts() == {"key": OTHER.public}
    assert killed.position == again.position == event.position
    authority.check()


def test_a_dry_run_shows_the_tasks_of_a_key_and_no_others(authority: Authority) -> None:
    mine, others = (authority.open(allow=["crm.read"], agent_key=key.public) for key in (PLANNER, OTHER))
    dying = authority.revoke(key=PLANNER.public, dry_run=True).dying
    assert dying is not None
    assert dying.nodes == (b64u(mine.bundle.node or b""),)
    assert set(dying.capabilities) == {b64u(one.ids[-1]) for one in mine.bundle}
    assert refused(authority, mine.bundle.with_key(PLANNER)) == []
    authority.revoke(key=PLANNER.public)
    assert refused(authority, mine.bundle.with_key(PLANNER)) == ["revoked"]
    assert refused(authority, others.bundle.with_key(OTHER)) == []
    (dead, alive) = authority.graph().trees
    assert (dead.node.dead, dead.node.died_with, alive.node.dead) == ("revoked", PLANNER.public, None)
    assert {held.dead for held in dead.node.capabilities} == {"revoked"}


def test_a_key_is_revoked_beside_nothing_else(authority: Authority) -> None:
    with pytest.raises(InvalidRequest, match="exactly one thing"):
        authority.revoke(kid="AAAAAAAAAAA", key=PLANNER.public)


def test_a_member_without_a_value_is_not_sent() -> None:
    for whole, empty in ((OpenTask(agent_key=PLANNER.public), OpenTask()), (Revoke(key=PLANNER.public), Revoke())):
        assert decode_body(encode(empty), RequestBody) == RequestBody()
        with pytest.raises(InvalidRequest, match=r"unknown field `(agent_)?key`"):
            decode_body(encode(whole), RequestBody)


class Followers:
    """What reads the deaths in the store, and what reads the pages of its feed."""

    def __init__(self, authority: Authority, clock: Clock) -> None:
        self.authority, self.clock = authority, clock
        self.views = [View(), View()]
        self.source = authority.store.source()
        self.reader = PageReader(authority.export_keys("crm").feed)

    def look(self) -> None:
        """Learn what is new, and check that both know exactly what the store holds."""
        stored, fed = self.views
        stored.learn(self.source.news(stored.head))
        with self.authority.store.read() as reading:
            signer = self.authority.keyring.active.feed_signer()
            page = sign_page(reading, signer, self.reader.cursor, now=self.clock.now)
            held = [(one.key, one.reason) for one in reading.deaths()]
        news = self.reader.take(page.text, now=self.clock.now)
        assert news is not None
        fed.learn(news)
        assert [list(view.deaths.items()) for view in self.views] == [held, held]


@pytest.mark.parametrize("often", [True, False], ids=["after each step", "now and then"])
def test_followers_know_a_key_that_died_anew(clock: Clock, authority: Authority, often: bool) -> None:
    followers = Followers(authority, clock)
    authority.revoke(kid="AAAAAAAAAAA")
    authority.revoke(key=PLANNER.public)
    authority.revoke(authority.open(allow=["a.b"]).bundle)
    followers.look()
    for step in range(4):
        forget(authority, clock)
        if often or step % 2:
            followers.look()
        authority.revoke(authority.open(allow=["a.b"]).bundle)
        followers.look()
        assert of_public(PLANNER.public) in followers.views[1].deaths
    followers.source.close()
