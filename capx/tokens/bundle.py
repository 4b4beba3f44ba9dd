"""A bundle: an agent's capabilities for several audiences, all of one task and one node.

Laws: delegating writes one hop nonce into every capability, so a sub-agent is one node at all audiences. The capability
for the authority itself goes along only for what is named of it, action by action. A bundle never goes to a resource:
it presents one capability for one call.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NoReturn, TypedDict, Unpack

from capx.errors import InvalidRequest, MalformedToken
from capx.tokens.binding import HttpRequest, Received, ToolCall
from capx.tokens.capability import Capability, Presentation, new_nonce
from capx.tokens.grants import ASK, OWN_ENTRIES, Grant, ask_entries
from capx.tokens.lineage import AUTHORITY
from capx_caveats import Allow, Appendable, Call, Entry, Expires, Facts, Hop, Root, asked_of_each, is_too_much

if TYPE_CHECKING:
    from capx.tokens.delegation import Delegation, Revoker

MAX_TOKENS = 32
"""Capabilities per bundle."""
_OWN_ACTIONS = tuple(entry.pattern for entry in OWN_ENTRIES if entry.pattern != ASK)


class Narrowing(TypedDict, total=False):
    """By what a delegation narrows a bundle: the keywords of `Bundle.delegate`, for those who pass them on."""

    allow: Sequence[str | Entry] | None
    may_ask: Iterable[Grant]
    caveats: Iterable[Appendable]
    audiences: Iterable[str] | None


def frozen_narrowing(
    *,
    allow: Sequence[str | Entry] | None = None,
    may_ask: Iterable[Grant] = (),
    caveats: Iterable[Appendable] = (),
    audiences: Iterable[str] | None = None,
) -> Narrowing:
    """The same, each iterable read now; TypeError for a keyword that narrows nothing."""
    return Narrowing(
        allow=allow,
        may_ask=may_ask if isinstance(may_ask, str) else tuple(may_ask),
        caveats=tuple(caveats),
        audiences=None if audiences is None else tuple(audiences),
    )


class Bundle:
    """Capabilities of one task and one node; there may be several for an audience, the newest last."""

    __slots__ = ("_capabilities",)

    def __init__(self, capabilities: Iterable[Capability]) -> None:
        self._capabilities = tuple(capabilities)
        if not self._capabilities:
            raise InvalidRequest("a bundle holds one capability at least")
        if len(self._capabilities) > MAX_TOKENS:
            raise MalformedToken(f"a bundle holds at most {MAX_TOKENS} capabilities", "too_large")
        if len({(capability.task, capability.node) for capability in self._capabilities}) != 1:
            raise InvalidRequest("the capabilities of a bundle belong to one task and one node; these do not")

    @classmethod
    def parse(cls, text: str) -> "Bundle":
        """The bundle a text spells: tokens joined by commas; MalformedToken or InvalidRequest for any other text."""
        if text.count(",") >= MAX_TOKENS:
            raise MalformedToken(f"a bundle holds at most {MAX_TOKENS} capabilities", "too_large")
        return cls(map(Capability.parse, text.split(",")))

    @property
    def text(self) -> str:
        """The secret text: tokens joined by commas."""
        return ",".join(capability.text for capability in self._capabilities)

    @property
    def node(self) -> bytes | None:
        """The node of the execution graph at which all of this is held: what its delegator can revoke."""
        return self._capabilities[0].node

    @property
    def path(self) -> tuple[bytes, ...]:
        """The nodes from the root to this one."""
        return self._capabilities[0].path

    @property
    def hops(self) -> tuple[str, ...]:
        """The labels along the path."""
        return self._capabilities[0].hops

    @property
    def task(self) -> str | None:
        """The task all of this is for, not verified."""
        return self._capabilities[0].task

    @property
    def audiences(self) -> tuple[str, ...]:
        """The resources this speaks to, in order, each once."""
        return tuple(dict.fromkeys(capability.audience for capability in self._capabilities))

    def attenuate(self, *caveats: Appendable, now: int | None = None) -> "Bundle":
        """The same bundle, every capability narrowed by the same block.

        A budget counts for each of them alone: one that all share is what `delegate` makes.
        """
        return Bundle(capability.attenuate(*caveats, now=now) for capability in self._capabilities)

    def delegate(
        self,
        *,
        to: str,
        allow: Sequence[str | Entry] | None = None,
        may_ask: Iterable[Grant] = (),
        caveats: Iterable[Appendable] = (),
        audiences: Iterable[str] | None = None,
        nonce: str | None = None,
        now: int | None = None,
    ) -> "Bundle":
        """The child bundle of another agent: all capabilities, or those of the named audiences, narrowed alike.

        The capability for the authority itself goes along only if `allow` names actions of it (`task.complete`,
        `task.status`, `node.revoke`), each in full, or if there is something that the child may ask for at run time:
        `may_ask`, each `ACTION[@AUDIENCE]`, a pattern, or an entry whose arguments an ask must be pinned to. It is
        narrowed to these. InvalidRequest if none would go along.
        """
        shared = nonce or new_nonce()
        appended = tuple(caveats)
        own = (*_of_the_authority(allow), *ask_entries(may_ask))
        return Bundle(
            capability.delegate(
                to=to,
                allow=own if capability.audience == AUTHORITY else allow,
                caveats=appended,
                nonce=shared,
                now=now,
            )
            for capability in self._passed_on(audiences, to_authority=bool(own))
        )

    def delegated(self, *, to: str, at: "Revoker[Bundle]", **narrowing: Unpack[Narrowing]) -> "Delegation[Bundle]":
        """`delegate` for a block of code, `with` or `async with`, at whose end `at` revokes the child, come what may.

        `at` is the authority, or a client of it. Where revoking fails, its error is raised, or noted on the one that
        left the block.
        """
        from capx.tokens.delegation import Delegation

        read = frozen_narrowing(**narrowing)
        return Delegation(lambda: self.delegate(to=to, **read), to=to, authority=at)

    def holding(self, capability: Capability, *, now: int | None = None) -> "Bundle":
        """This bundle and one more capability, the newest: as it was if it held it; InvalidRequest for another node's.

        One that is full lets go of what has expired; else of the oldest that was granted at run time, which can be
        asked for again; of what is for the authority itself last.
        """
        if capability in self._capabilities:
            return self
        held = list(self._capabilities)
        if len(held) >= MAX_TOKENS:
            del held[_least(held, int(time.time()) if now is None else now)]
        return Bundle((*held, capability))

    def candidates(self, audience: str, received: Received | None = None) -> list[Capability]:
        """The capabilities for an audience, newest first, without those whose `allow`s rule the call out.

        When all rule it out, the newest alone: so that the resource explains and records. InvalidRequest when
        there is none for the audience.
        """
        newest_first = [c for c in reversed(self._capabilities) if c.audience == audience]
        if not newest_first:
            raise InvalidRequest(f"this bundle holds nothing for {audience!r}, only for {', '.join(self.audiences)}")
        if not isinstance(received, ToolCall):
            return newest_first
        call = Call(received.action, received.args)
        return [c for c in newest_first if not _ruled_out(c, call)] or newest_first[:1]

    def present(self, audience: str, received: ToolCall | HttpRequest, *, now: int | None = None) -> Presentation:
        """Present the best candidate for one request."""
        return self.candidates(audience, received)[0].present(received, now=now)

    def _passed_on(self, audiences: Iterable[str] | None, *, to_authority: bool) -> list[Capability]:
        wanted = set(self.audiences if audiences is None else audiences)
        if unknown := wanted.difference(self.audiences):
            raise InvalidRequest(f"this bundle holds nothing for {', '.join(sorted(unknown))}")
        named = audiences is not None and AUTHORITY in wanted
        if not to_authority:
            wanted.discard(AUTHORITY)
        if named and not to_authority:
            raise InvalidRequest(
                f"what the child may do at the {AUTHORITY} itself must be named: in `allow` each action in full "
                f"({', '.join(_OWN_ACTIONS)}), in `may_ask` what it may ask for"
            )
        if not wanted:
            raise InvalidRequest(
                "no capability is left for the child: name an audience that this bundle speaks to, or in `allow` what "
                f"it may do at the {AUTHORITY} itself ({', '.join(_OWN_ACTIONS)})"
            )
        return [capability for capability in self._capabilities if capability.audience in wanted]

    def __iter__(self) -> Iterator[Capability]:
        """The capabilities; of one audience, the newest last."""
        return iter(self._capabilities)

    def __len__(self) -> int:
        """How many capabilities it holds."""
        return len(self._capabilities)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bundle) and self._capabilities == other._capabilities

    def __hash__(self) -> int:
        return hash(self._capabilities)

    def __repr__(self) -> str:
        return f"Bundle(audiences={self.audiences!r}, hops={self.hops!r})"

    def __reduce__(self) -> NoReturn:
        raise InvalidRequest("a bundle is a secret: pass its `text` on where it must go")


def _of_the_authority(allow: Sequence[str | Entry] | None) -> tuple[str | Entry, ...]:
    """What an allowlist names of the authority's own actions: never by a pattern, which may be meant for others."""
    if allow is None or isinstance(allow, str):
        return ()
    if any((one.pattern if isinstance(one, Entry) else one) == ASK for one in allow):
        raise InvalidRequest(f"{ASK} is not named in `allow`: say in `may_ask` what the child may ask for")
    return tuple(one for one in allow if (one.pattern if isinstance(one, Entry) else one) in _OWN_ACTIONS)


def _least(held: Sequence[Capability], now: int) -> int:
    """Which of these is missed least: what was granted at run time stands behind what its holder asked with."""
    asked_with = max((index for index, one in enumerate(held) if one.audience == AUTHORITY), default=-1)

    def missed(index: int) -> tuple[bool, bool, bool, int, int]:
        one = held[index]
        expired = any(caveat.at <= now for block in one.caveats for caveat in block if isinstance(caveat, Expires))
        return one.audience == AUTHORITY, not expired, index < asked_with, one.issued_at, index

    return min(range(len(held)), key=missed)


def _ruled_out(capability: Capability, call: Call) -> bool:
    if is_too_much(call.args, lambda: sum(map(asked_of_each, capability.caveats))):
        return False
    facts = Facts(call, 0, 0.0)
    return any(
        caveat.refusal(facts) is not None
        for block in capability.caveats
        for caveat in block
        if isinstance(caveat, Allow)
    )


def hops_between(above: Bundle, below: Bundle) -> list[str]:
    """The nonces of the hops that lead from one node to another below it; InvalidRequest if none do."""
    own = above.path
    if not own or below.path[: len(own)] != own or len(below.path) == len(own):
        raise InvalidRequest("this bundle was not delegated from yours: an agent revokes only what lies below its node")
    first, *others = next(iter(below)).caveats
    granted = [step.nonce for caveat in first if isinstance(caveat, Root) for step in caveat.steps]
    hops = [block[0].nonce for block in others if isinstance(block[0], Hop)]
    return [*granted, *hops][len(own) - 1 :]
