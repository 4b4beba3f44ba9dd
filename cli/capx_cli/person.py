"""What a person may do at an authority elsewhere, under the names that operators' commands use.

Laws: each request is signed with the key of the person, and nothing is signed for an authority that they have not
confirmed. What an authority does not tell a person is refused here, in a sentence.
"""

import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import click

from capx.api.messages.outcomes import Ended, Revocation
from capx.api.problems import HttpRefusal
from capx.authority.graph.graph import Graph
from capx.authority.intent_use import WithdrawnIntent
from capx.authority.people.client import PersonClient
from capx.authority.people.known import UnknownAuthority
from capx.authority.people.messages import MOST, AuthorityNow, Inbox, OpenedOnIntent, OwnDecision, ShownInquiry
from capx.authority.requests.answers import GivenAnswer
from capx.authority.requests.inquiry import Inquiry
from capx.authority.requests.verdict import Verdict
from capx.errors import InvalidRequest, StoreProblem
from capx.intents.intent import Intent, SignedIntent
from capx.intents.principal_key import PrincipalKey
from capx.store.lifecycle import is_final
from capx.store.log import Event
from capx.store.records import RequestRecord, TaskRecord
from capx.tokens.discharge import Discharge
from capx_caveats import When
from capx_cli import screen
from capx_cli.failure import Unusable
from capx_cli.view import SHOWN


class PersonOperations:
    """An authority elsewhere, for one person. UsageError for what it does not tell people."""

    def __init__(self, client: PersonClient, now: AuthorityNow) -> None:
        self._client = client
        self.now = now
        """What the authority said of itself when this was opened."""

    @classmethod
    def met(cls, origin: str, key: PrincipalKey, *, known: Path, trust: str | None) -> Self:
        """Open the authority at `origin` once the person knows it; the file `known` keeps what they confirm."""
        client = PersonClient(origin, key, known=known, trust=trust)
        try:
            return cls(client, client.authority())
        except UnknownAuthority as unknown:
            client.close()
            _confirm(unknown)
            return cls.met(origin, key, known=known, trust=unknown.authority)
        except BaseException:
            client.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    @property
    def name(self) -> str:
        """The principal."""
        return self._client.name

    @property
    def origin(self) -> str:
        """Where the authority is."""
        return self._client.origin

    def epoch(self) -> str:
        """The epoch of the authority."""
        return self.now.epoch

    def open(
        self, intent: SignedIntent, *, expires: When | None, agent_key: str | None, seal_to: str | None
    ) -> OpenedOnIntent:
        """Open a task on an intent; InvalidRequest if it gets nothing, also because it is of somebody else."""
        with _named_wrong():
            return self._client.open(intent, expires=expires, agent_key=agent_key, seal_to=seal_to)

    def task_page(
        self,
        *,
        limit: int = SHOWN,
        before: str | None = None,
        after: str | None = None,
        active: bool = False,
        intent: str | None = None,
    ) -> list[TaskRecord]:
        """Some of the person's tasks, in the order of their opening: the newest, or the newest before one."""
        if after is not None:
            raise click.UsageError(f"{self.origin} lists your tasks from the newest on: give --before, not --after")
        found: list[TaskRecord] = []
        seen = {before}
        while len(found) < limit:
            most = MOST if active else min(MOST, limit - len(found))
            page = self._client.tasks(limit=most, before=before, intent=intent)
            ids = [task.id for task in page.items]
            if not seen.isdisjoint(ids) or page.next not in {None, *ids[-1:]}:
                raise self._leads_nowhere()
            seen.update(ids)
            found += [task for task in page.items if not active or not is_final(task.state)]
            if (before := page.next) is None:
                break
        return found[:limit][::-1]

    def task(self, task_id: str) -> TaskRecord:
        """A task of the person."""
        return self._client.task(task_id)

    def minted(self, task_id: str) -> list[Event] | None:  # noqa: ARG002 - as that of operators
        """None: people are not told; the graph shows what the agents of a task hold."""
        return None

    def graph(self, task_id: str | None = None, *, limit: int = 1) -> Graph:  # noqa: ARG002 - as that of operators
        """The graph of a task of the person."""
        if task_id is None:
            raise click.UsageError(f"{self.origin} draws one task of yours at a time: name it, or give last")
        return self._client.graph(task_id)

    def requests(self, *, task: str | None = None, pending: bool = False) -> list[RequestRecord]:
        """The requests of a task of the person; what asks them is in their `inbox`."""
        if task is None:
            raise click.UsageError(
                f"{self.origin} tells answers only of one task on your own intent: give its --task TASK; "
                "of others, capx requests show REQUEST shows one that you were asked to answer"
            )
        return [one for one in self._client.requests(task) if not pending or one.state == "pending"]

    def answers(self, task: str) -> list[GivenAnswer]:
        """The answers to the requests of a task of the person."""
        return self._client.answers(task)

    def inbox(self) -> Inbox:
        """What asks the person, or is about their work."""
        return self._client.inbox()

    def watch(self) -> Iterator[Inbox]:
        """The inbox now, and whenever it has changed."""
        return self._client.watch()

    def shown(self, request_id: str) -> ShownInquiry:
        """A request, with its task and how much its agent has asked for."""
        return self._client.inquiry(request_id)

    def inquiry(self, request_id: str) -> Inquiry:
        """A request with its intent: what the person signs."""
        return self.shown(request_id).inquiry

    def answer(self, verdict: Verdict) -> RequestRecord:
        """Hand in an answer that the person has signed."""
        return self._client.hand_in(verdict)

    def approve(self, request_id: str, discharge: Discharge | str) -> RequestRecord:
        """Hand in what the person has signed on a request for the approval of one call."""
        return self._client.approve(request_id, discharge)

    def withdraw(self, task_id: str, *, dry_run: bool = False) -> Ended:
        """End a task of the person."""
        return self._client.withdraw(task_id, dry_run=dry_run)

    def revoke(self, task_id: str, target: str, *, dry_run: bool) -> Revocation:
        """Revoke a node or a capability in a task of the person; InvalidRequest for one that is not in it."""
        with _named_wrong():
            return self._client.revoke(task_id, target, dry_run=dry_run)

    def withdraw_intent(self, intent: Intent | SignedIntent, *, dry_run: bool) -> WithdrawnIntent:
        """Withdraw an intent of the person."""
        with _named_wrong():
            return self._client.withdraw_intent(intent, dry_run=dry_run)

    def decisions(self, task_id: str) -> Iterator[Event]:
        """The decisions in a task of the person, the newest first; people are told no positions, so these are 0."""
        for one in self._decisions(task_id):
            yield Event(position=0, at=one.at, kind="decision", body=bytes(one.facts), hash=b"")

    def _decisions(self, task_id: str) -> Iterator[OwnDecision]:
        page = self._client.decisions(task_id, limit=MOST)
        seen: set[str] = set()
        while True:
            yield from page.items
            if page.next is None:
                return
            if page.next in seen or not page.items:
                raise self._leads_nowhere()
            seen.add(page.next)
            page = self._client.decisions(task_id, limit=MOST, before=page.next)

    def _leads_nowhere(self) -> StoreProblem:
        return StoreProblem(f"the pages of {self.origin} do not move on: each must begin behind the one before")

    def prove(self) -> None:
        """Raise UnprovenPerson unless the authority knows this person by this key."""
        self._client.policy()


@contextmanager
def _named_wrong() -> Generator[None]:
    """Raise InvalidRequest in place of the refusal of what is not the person's."""
    try:
        yield
    except HttpRefusal as refused:
        if refused.code not in {"not_yours", "unknown_target"}:
            raise
        raise InvalidRequest(str(refused)) from None


def _confirm(unknown: UnknownAuthority) -> None:
    """Ask whether a place has the authority that the person means; raise unless they say so."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise click.UsageError(
            f"nobody has confirmed that {unknown.origin} is the authority {unknown.authority}: ask its operator for "
            "its id, which capx doctor shows there, and give it with --trust ID"
        )
    screen.note(f"You have not used {unknown.origin} before. It says that it is the authority", screen.STRONG)
    screen.note(f"  {unknown.authority}", screen.STRONG)
    screen.note("Its operator sees the id with capx doctor. If that is another one, somebody else answers there, and")
    screen.note("could have you sign intents for another authority.")
    if not click.confirm("Is this the id that its operator told you?", err=True):
        raise Unusable("nothing was signed, and the authority is not trusted")
