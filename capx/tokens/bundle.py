"""A bundle: an agent's capabilities for several audiences, all of one task and one node, and the approvals it holds.

Laws:

- A delegation writes the same hop nonce into every capability. So a sub-agent is one node at all audiences.
- A child gets the capability for the authority itself only if the delegator names its actions, one by one, or if its
  calls need approvals, for which it may then ask.
- A bundle is never sent to a resource. It presents one capability for one call, with the approvals that it demands.
- A file with a bundle is its owner's alone, from the first moment.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Final, NoReturn, ParamSpec, TypedDict, TypeVar, Unpack

from capx.crypto import private_file
from capx.crypto.instants import now_or
from capx.errors import ConfigurationProblem, InvalidRequest, MalformedToken
from capx.tokens.approval_caveat import ApprovalTerms, KeyedCaveat
from capx.tokens.approval_request import ApprovalRequest
from capx.tokens.binding import Received, ToolCall
from capx.tokens.capability import Capability, Presentation, new_nonce
from capx.tokens.discharge import PREFIX as APPROVAL
from capx.tokens.discharge import Discharge
from capx.tokens.grants import ASK, ASK_APPROVAL, OWN_ACTIONS, Grant, ask_entries, audience_meant
from capx.tokens.guarded_function import guard_of
from capx.tokens.lineage import AUTHORITY
from capx.tokens.signed_blocks import SigningKey
from capx.tokens.wire import MAX_TEXT
from capx_caveats import (
    JSON,
    Allow,
    Appendable,
    Call,
    Entry,
    Expires,
    Hop,
    Root,
    resolved,
)

if TYPE_CHECKING:
    from pathlib import Path  # slow to import: a caller that passes one has imported it already

    from capx.crypto.agent_key import AgentKey
    from capx.tokens.delegation import Delegation, Revoker
    from capx.tokens.effective.effective import Effective
    from capx.tokens.effective.prediction import Forecast

P = ParamSpec("P")
R = TypeVar("R")

MAX_TOKENS = 32
"""Most capabilities that a bundle may hold, and most approvals."""
SEALED: Final = "capxseal1_"
"""How a sealed text begins: `capx.crypto.sealed.PREFIX`, which is slow to import."""
_MOST_BYTES = 2 * MAX_TOKENS * (MAX_TEXT + 1) + 2
"""A longer file is no bundle, so no more of it is read: a line end and one byte too many are still seen."""


class Narrowing(TypedDict, total=False):
    """The keywords of `Bundle.delegate` that narrow, or name the child's key, for functions that pass them on."""

    to_key: SigningKey | str | None
    allow: Sequence[str | Entry] | None
    may_ask: Iterable[Grant]
    caveats: Iterable[Appendable]
    audiences: Iterable[str] | None
    approval: ApprovalTerms | KeyedCaveat | None


def frozen_narrowing(
    *,
    to_key: SigningKey | str | None = None,
    allow: Sequence[str | Entry] | None = None,
    may_ask: Iterable[Grant] = (),
    caveats: Iterable[Appendable] = (),
    audiences: Iterable[str] | None = None,
    approval: ApprovalTerms | KeyedCaveat | None = None,
) -> Narrowing:
    """These keywords with each iterable read into a tuple; TypeError for any other keyword."""
    return Narrowing(
        to_key=to_key,
        allow=allow if allow is None or isinstance(allow, str) else tuple(allow),
        # A text stays a text, so that `delegate` refuses it and does not take its letters as actions. So does what is
        # no list of caveats.
        may_ask=may_ask if isinstance(may_ask, str) else tuple(may_ask),
        caveats=tuple(caveats) if _is_list(caveats) else caveats,
        audiences=None if audiences is None else tuple(audiences),
        approval=approval,
    )


def _is_list(given: object) -> bool:
    return isinstance(given, Iterable) and not isinstance(given, str)


class Bundle:
    """Capabilities of one task and one node; there may be several for an audience, the newest last.

    Its holder has no key of the authority: nothing that it reads in it is verified. `key` is the holder's own key, for
    tokens that are bound to one. `approvals` are those of people, the newest last. Raises InvalidRequest for
    capabilities of different tasks, nodes or keys, and for another key than theirs; MalformedToken (too_large) for more
    than MAX_TOKENS of either kind.
    """

    __slots__ = ("_approvals", "_capabilities")

    def __init__(
        self,
        capabilities: Iterable[Capability],
        *,
        approvals: Iterable[Discharge] = (),
        key: SigningKey | None = None,
    ) -> None:
        _demand_no_text(key)
        self._capabilities = tuple(capabilities if key is None else [one.with_key(key) for one in capabilities])
        if not self._capabilities:
            raise InvalidRequest("a bundle holds one capability at least")
        self._approvals = tuple(approvals)
        if max(len(self._capabilities), len(self._approvals)) > MAX_TOKENS:
            raise MalformedToken(
                f"a bundle holds at most {MAX_TOKENS} capabilities, and as many approvals", "too_large"
            )
        if len({(capability.task, capability.node) for capability in self._capabilities}) != 1:
            raise InvalidRequest("the capabilities of a bundle belong to one task and one node; these do not")
        if len({capability.holder_key for capability in self._capabilities}) != 1:
            raise InvalidRequest("the capabilities of a bundle are bound to one key, or all to none; these are not")

    @classmethod
    def parse(cls, text: str) -> "Bundle":
        """The bundle in a text, not verified: tokens, then approvals, joined by commas.

        MalformedToken or InvalidRequest if it is not valid.
        """
        if text != text.strip():
            raise MalformedToken("there is white space around the text of the bundle: strip it, such as a line's end")
        if text.startswith(SEALED):
            raise MalformedToken("this text is sealed: Bundle.unseal opens it, with the key that it was sealed to")
        if text.count(",") >= 2 * MAX_TOKENS:
            raise MalformedToken(
                f"a bundle holds at most {MAX_TOKENS} capabilities, and as many approvals", "too_large"
            )
        if text.startswith(APPROVAL):
            raise MalformedToken("this begins with an approval, which is of no use alone: tokens come first")
        pieces = text.split(",")
        tokens = [*takewhile(lambda piece: not piece.startswith(APPROVAL), pieces)]
        return cls(map(Capability.parse, tokens), approvals=map(Discharge.parse, pieces[len(tokens) :]))

    @property
    def text(self) -> str:
        """The secret text: tokens, then approvals, joined by commas."""
        return ",".join([*(one.text for one in self._capabilities), *(one.text for one in self._approvals)])

    @property
    def approvals(self) -> tuple[Discharge, ...]:
        """The approvals that it holds, the newest last; not verified."""
        return self._approvals

    @classmethod
    def load(cls, path: "Path | str") -> "Bundle":
        """Read the bundle in a file of `save` or of the command line; it is not verified.

        ConfigurationProblem if the file cannot be read, or if other users can read or change it. MalformedToken or
        InvalidRequest as in `parse`.
        """
        read = _read(path)
        if isinstance(read, Bundle):
            return read
        raise read

    def save(self, path: "Path | str", *, replace: bool = False) -> None:
        """Write the bundle to a file that only its owner can read; a reader never sees a part of it.

        ConfigurationProblem if it cannot be written, or, without `replace`, if there is a file already. After an error
        the old file is as it was.
        """
        from pathlib import Path

        private_file.save(Path(path), lambda: f"{self.text}\n".encode("ascii"), ConfigurationProblem, over=replace)

    @property
    def node(self) -> bytes | None:
        """The holder's node in the execution graph: 16 bytes. Its delegator can revoke it."""
        return self._capabilities[0].node

    @property
    def path(self) -> tuple[bytes, ...]:
        """The nodes from the root to this one, 16 bytes each."""
        return self._capabilities[0].path

    @property
    def hops(self) -> tuple[str, ...]:
        """The labels along the path."""
        return self._capabilities[0].hops

    @property
    def task(self) -> str | None:
        """The task of all its capabilities; not verified."""
        return self._capabilities[0].task

    @property
    def audiences(self) -> tuple[str, ...]:
        """The resources that it has capabilities for, in order, each once."""
        return tuple(dict.fromkeys(capability.audience for capability in self._capabilities))

    @property
    def holder(self) -> str | None:
        """The public key that its tokens are bound to (`ed25519:` and 43 characters); None if anybody may use them."""
        return self._capabilities[0].holder_key

    @property
    def key(self) -> SigningKey | None:
        """The key of its holder; None if it is not here, or the tokens are bound to none."""
        return self._capabilities[0].key

    def with_key(self, key: SigningKey) -> "Bundle":
        """The same bundle with the key of its holder; InvalidRequest if its tokens are bound to another key or none.

        `key` is an `AgentKey`, or anything with its `public` and `sign`.
        """
        return Bundle(self._capabilities, approvals=self._approvals, key=key)

    def sealed(self, *, to: str | None = None) -> str:
        """The bundle as a text that only the owner of a key can read, for a hand-over that others may see.

        It is sealed to the key that its tokens are bound to. A bearer bundle needs `to`, a public key (`ed25519:` and
        43 characters). InvalidRequest for another key than that of its tokens; KeyProblem for a key that is not safe.
        """
        from capx.crypto.agent_key import parse_agent_key  # slow to import, and few bundles are sealed
        from capx.crypto.sealed import seal

        if to is not None:
            parse_agent_key(to)
        if to is None and self.holder is None:
            raise InvalidRequest("these tokens are bound to no key: name the key of the next holder (to=)")
        if None not in {to, self.holder} and to != self.holder:
            raise InvalidRequest(f"these tokens are bound to {self.holder}: the owner of {to} could not use them")
        return seal(self.text, "bundle", to or self.holder or "")

    @classmethod
    def unseal(cls, text: str, key: "AgentKey", *, task: str | None = None) -> "Bundle":
        """The bundle in a text of `sealed`, with its key; nothing in it is verified.

        Anybody can seal a bundle of their own to a public key. So give the `task` that you expect. MalformedToken if it
        is not a bundle that was sealed to this key. InvalidRequest if it is of another task, or bound to another key.
        """
        _demand_no_text(key)
        if task is not None and not isinstance(task, str):  # pyright: ignore[reportUnnecessaryIsInstance] # not everybody checks types
            raise InvalidRequest(f"`task` is the id of a task, and not a {type(task).__name__}: pass task.id")
        # What comes from a queue may be bytes.
        if type(text) is not str or not text.startswith(SEALED):
            told = "this text is not sealed: Bundle.parse reads a token as it is"
            raise MalformedToken(told if text else "there is no text to open")
        bundle = _opened(key.unseal(text, "bundle"))
        if not isinstance(bundle, Bundle):
            raise bundle
        if task is not None and bundle.task != task:
            raise InvalidRequest(
                f"what was sealed is of task {bundle.task}, and not of {task}: somebody else may have sent it"
            )
        return bundle if bundle.holder is None else bundle.with_key(key)

    def attenuate(
        self, *caveats: Appendable, approval: ApprovalTerms | KeyedCaveat | None = None, now: int | None = None
    ) -> "Bundle":
        """The same bundle with every capability narrowed by the same block; see `Capability.attenuate`.

        A budget counts for each capability separately. For a budget that they share, use `delegate`. A demand for an
        approval is the same in all of them, so one approval serves whichever of them it says.
        """
        demand = _drawn(approval)
        return Bundle(
            [one.attenuate(*caveats, approval=demand, now=now) for one in self._capabilities],
            approvals=self._approvals,
        )

    def delegate(
        self,
        *,
        to: str,
        to_key: SigningKey | str | None = None,
        allow: Sequence[str | Entry] | None = None,
        may_ask: Iterable[Grant] = (),
        caveats: Iterable[Appendable] = (),
        audiences: Iterable[str] | None = None,
        approval: ApprovalTerms | KeyedCaveat | None = None,
        nonce: str | None = None,
        now: int | None = None,
    ) -> "Bundle":
        """The bundle for a child agent: all capabilities, or those for `audiences`, narrowed in the same way.

        The child gets the capability for the authority itself only if `allow` names actions of it in full
        (`task.complete`, `task.status`, `node.revoke`), or if `may_ask` names something that the child may ask for at
        run time. It is then narrowed to these. `may_ask` has `ACTION[@AUDIENCE]`, patterns, or entries; an ask for an
        entry must be pinned to arguments that satisfy it. `to_key` is the key of the child, see `Capability.delegate`;
        tokens that are bound to a key need it. With `approval` (of `capx.approval`), each call of the child needs the
        approval of people, also those at the authority, except its asks. A child that needs approvals, or may ask for
        more, may ask for approvals, if this bundle has a capability for the authority. It gets those that this holds
        and that its own capabilities demand.
        InvalidRequest if the child would get no capability.
        """
        shared = nonce or new_nonce()
        appended = resolved(caveats, now_or(now))
        demand = _drawn(approval)
        asks = ask_entries(may_ask)
        own = (*_of_the_authority(allow), *asks)
        # What a child may ask for may need an approval, too.
        if asks or demand is not None or any(capability.demands for capability in self._capabilities):
            own = (*own, ASK_APPROVAL)
        passed_on = self._passed_on(audiences, to_authority=bool(own))
        approvals: Sequence[Discharge] = self._approvals
        if approvals:
            from capx.tokens.held_approvals import usable

            approvals = usable(approvals, passed_on)
        return Bundle(
            [
                capability.delegate(
                    to=to,
                    to_key=to_key,
                    allow=own if capability.audience == AUTHORITY else allow,
                    caveats=appended,
                    approval=demand,
                    nonce=shared,
                )
                for capability in passed_on
            ],
            approvals=approvals,
        )

    def delegated(self, *, to: str, at: "Revoker[Bundle]", **narrowing: Unpack[Narrowing]) -> "Delegation[Bundle]":
        """`delegate` for a block of code, `with` or `async with`. At its end, `at` revokes the child in any case.

        `at` is the authority, or a client of it. If revoking fails, that error is raised. If the block itself raised,
        its exception goes on, with a note about the failure.
        """
        # Imported here: threads and asyncio take long to import, and most holders need neither.
        from capx.tokens.delegation import Delegation

        read = frozen_narrowing(**narrowing)
        return Delegation(lambda: self.delegate(to=to, **read), to=to, authority=at)

    def holding(self, capability: Capability | Discharge, *, now: int | None = None) -> "Bundle":
        """This bundle with one more capability or approval, as the newest.

        InvalidRequest for a capability of another node, for an approval that none of its capabilities demands, and for
        one that other people must sign as well.

        A bundle that holds it already stays as it is. A full bundle drops one capability: an expired one first, then
        one that was granted at run time, because the agent can ask for it again. That is the oldest of the audience
        with the most such grants, this one included, so that no service drives out what is for others. It drops the
        capabilities for the authority itself last. Of 33 approvals it drops an expired one first, then the oldest.
        """
        at = now_or(now)
        if isinstance(capability, Discharge):
            return self._holding_approval(capability, at)
        if capability in self._capabilities:
            return self
        held = list(self._capabilities)
        if len(held) >= MAX_TOKENS:
            del held[_least(held, capability.audience, at)]
        if self.key is not None and capability.key is None:
            capability = capability.with_key(self.key)
        return Bundle((*held, capability), approvals=self._approvals)

    def _holding_approval(self, approval: Discharge, now: int) -> "Bundle":
        from capx.tokens.approving import has_expired
        from capx.tokens.held_approvals import missing_signatures

        if not any(approval.cid in capability.demands for capability in self._capabilities):
            raise InvalidRequest("no capability of this bundle demands this approval: it is another agent's")
        if missing := missing_signatures(approval):
            more = f"{missing} more must sign it" if missing > 0 else "it has more signatures than its demand wants"
            raise InvalidRequest(f"this approval cannot be used: {more}")
        if missing is None:
            raise InvalidRequest("this approval cannot be used: its demand is none that capx writes")
        held = [one for one in self._approvals if one != approval]
        if len(held) >= MAX_TOKENS:
            held.remove(next((one for one in held if has_expired(one, now)), held[0]))
        return Bundle(self._capabilities, approvals=(*held, approval))

    def without(self, *others: Capability | Discharge) -> "Bundle":
        """This bundle without these capabilities and approvals, as far as it holds them."""
        return Bundle(
            [one for one in self._capabilities if one not in others],
            approvals=[one for one in self._approvals if one not in others],
        )

    def candidates(self, audience: str, received: Received | Call | None = None) -> list[Capability]:
        """The capabilities for an audience, newest first, without those whose `allow` caveats exclude the call.

        If all exclude it, only the newest: the resource then explains and records the denial. InvalidRequest if there
        is none for the audience. This is a prediction without a key; the resource decides. Give a Call if the arguments
        that are left out are known.
        """
        newest_first = [c for c in reversed(self._capabilities) if c.audience == audience]
        if not newest_first:
            raise self._holds_nothing(audience)
        if not isinstance(received, ToolCall | Call):
            return newest_first
        from capx.tokens.held_approvals import is_ruled_out

        call = Call(received.action, received.args) if isinstance(received, ToolCall) else received
        return [c for c in newest_first if not is_ruled_out(c, call)] or newest_first[:1]

    def can(self, audience: str | None = None, *, now: int | None = None) -> "tuple[Effective, ...]":
        """What each capability, or each for an audience, can still allow; as `capx can` and `capx inspect` show it.

        It is read without a key, so nothing is verified, and revocations are not known. `sentences()` of each lists
        the actions in words; `why_nothing` says why one allows nothing. InvalidRequest for an audience that the bundle
        holds nothing for, such as the name of an action.
        """
        # Imported here: most holders only present.
        from capx.tokens.effective.effective import effective

        if audience is not None and audience not in self.audiences:
            raise self._holds_nothing(audience)
        at = now_or(now)
        return tuple(effective(one, at) for one in self if audience in (None, one.audience))

    def explain(self, call: Call, *, audience: str | None = None, now: int | None = None) -> "Forecast":
        """How the token itself judges a call, restriction by restriction; as `capx explain` shows it.

        If it is `refused`, every resource denies the call. If not, the resource decides. Nothing is verified, sent or
        used up. Without `audience`, it is the authority for its own actions, the only resource, or the first label of
        the action. InvalidRequest if the bundle has no capability for it.
        """
        from capx.tokens.effective.prediction import forecast

        if not isinstance(call, Call):  # pyright: ignore[reportUnnecessaryIsInstance] # not everybody checks types
            raise InvalidRequest(
                f'explain a Call, such as capx.Call("crm.read", {{"id": 7}}), and not a {type(call).__name__}'
            )
        meant = audience_meant(self.audiences, call.action) if audience is None else audience
        if meant not in self.audiences:
            raise self._holds_nothing(meant)
        return forecast(self, call, meant, now_or(now), self._approvals)

    def _holds_nothing(self, audience: str) -> InvalidRequest:
        return InvalidRequest(f"this bundle holds nothing for {audience!r:.80}, only for {', '.join(self.audiences)}")

    def present(self, audience: str, received: Received, *, now: int | None = None) -> Presentation:
        """Bind the best candidate to one request, to be sent once; InvalidRequest if there is none."""
        return self.present_capability(self.candidates(audience, received)[0], received, now=now)

    def present_capability(
        self,
        capability: Capability,
        received: Received,
        *,
        call: Call | None = None,
        now: int | None = None,
    ) -> Presentation:
        """Bind one of its capabilities to one request, with the newest approvals that may serve it.

        `call` is the call, if more is known of it than what is sent: the action of an HTTP request, or arguments that
        are left out.
        """
        at = now_or(now)
        if not (self._approvals and capability.demands):
            return capability.present(received, now=at)
        from capx.tokens.held_approvals import choose

        if call is None and isinstance(received, ToolCall):
            call = Call(received.action, received.args)
        return capability.present(received, approvals=choose(capability, self._approvals, call, at), now=at)

    def approval_request(
        self, action: str, args: Mapping[str, JSON], *, audience: str | None = None, now: int | None = None
    ) -> ApprovalRequest:
        """The request for an approval of one call, for the first demand that no approval of this bundle answers.

        If each has one, it is for the first demand: the approval may be used up. Without `audience`, it is as in
        `explain`. Send it to the people whom it names. InvalidRequest if no capability for the audience demands an
        approval, or if no approval can hold the arguments.
        """
        meant = audience_meant(self.audiences, action) if audience is None else audience
        first = self._capabilities[0]
        for cid in self.demands_for(Call(action, args), audience=meant, now=now):
            return ApprovalRequest.of(
                cid,
                audience=meant,
                node=first.node or b"",
                action=action,
                args=args,
                task=first.task or "",
                intent=first.intent,
                now=now_or(now),
            )
        raise InvalidRequest(
            f"no capability for {meant} that may allow this call demands an approval of it: `explain` tells why each "
            "of them allows the call or not"
        )

    def demands_for(self, call: Call, *, audience: str, now: int | None = None) -> list[bytes]:
        """The cids of the demands for an approval of one call, first those that no approval of this bundle answers."""
        from capx.tokens.held_approvals import demands_of

        at = now_or(now)
        found = (demands_of(one, self._approvals, call, at) for one in self.candidates(audience, call))
        return [*dict.fromkeys(cid for cids in found for cid in cids)]

    def calling(self, tool: Callable[P, R]) -> Callable[P, R]:
        """The guarded tool, plain or async, called with this bundle: `bundle.calling(tool)(…)`.

        It needs no `acting` block around it, so it also fits threads, pools and generators. InvalidRequest unless the
        tool was made by `ToolGuard.tool` or `Authority.tool`, and has no other decorator around it.
        """
        return guard_of(tool).called_by(self)

    def _passed_on(self, audiences: Iterable[str] | None, *, to_authority: bool) -> list[Capability]:
        wanted = set(self.audiences if audiences is None else audiences)
        if unknown := wanted.difference(self.audiences):
            raise InvalidRequest(f"this bundle holds nothing for {', '.join(sorted(unknown))}")
        named = audiences is not None and AUTHORITY in wanted
        if not to_authority:
            wanted.discard(AUTHORITY)
        if named and not to_authority:
            raise InvalidRequest(
                f"name what the child may do at the {AUTHORITY} itself: its actions in full in `allow` "
                f"({', '.join(OWN_ACTIONS)}), and what it may ask for in `may_ask`"
            )
        if not wanted:
            raise InvalidRequest(
                "no capability is left for the child: name an audience of this bundle, or name in `allow` what it may "
                f"do at the {AUTHORITY} itself ({', '.join(OWN_ACTIONS)})"
            )
        return [capability for capability in self._capabilities if capability.audience in wanted]

    def __iter__(self) -> Iterator[Capability]:
        """The capabilities; those of one audience with the newest last."""
        return iter(self._capabilities)

    def __len__(self) -> int:
        """How many capabilities it holds."""
        return len(self._capabilities)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bundle) and self.text == other.text

    def __hash__(self) -> int:
        return hash((self._capabilities, self._approvals))

    def __repr__(self) -> str:
        return f"Bundle(audiences={self.audiences!r}, hops={self.hops!r})"

    def __reduce__(self) -> NoReturn:
        raise InvalidRequest("a bundle is a secret: pass its `text` on where it must go")


def _drawn(approval: ApprovalTerms | KeyedCaveat | None) -> KeyedCaveat | None:
    return approval.drawn() if isinstance(approval, ApprovalTerms) else approval


def _opened(text: str) -> "Bundle | MalformedToken | InvalidRequest":
    """The bundle in a text that was sealed, or the error for `unseal` to raise: the locals of this frame hold it."""
    try:
        return Bundle.parse(text)
    except (MalformedToken, InvalidRequest) as error:
        return error.with_traceback(None)


def _demand_no_text(key: object) -> None:
    if isinstance(key, str | os.PathLike):
        raise InvalidRequest("give the key itself, and not a text or its file: capx.AgentKey.load(FILE) reads it")


def _read(path: "Path | str") -> "Bundle | MalformedToken | InvalidRequest":
    """The bundle in a file, or the error for `load` to raise: the locals of this frame hold the secret."""
    from pathlib import Path

    with private_file.explained(ConfigurationProblem, f"cannot read the token file {path}"):
        text = private_file.read_secret(Path(path), ConfigurationProblem, "token file", _MOST_BYTES)
    try:
        return Bundle.parse(text.decode("ascii", "replace").strip())
    except MalformedToken as error:
        return MalformedToken(f"{path}: {error}", error.code)
    except InvalidRequest as error:
        return InvalidRequest(f"{path}: {error}")


def _of_the_authority(allow: Sequence[str | Entry] | None) -> tuple[str | Entry, ...]:
    """The entries for the authority's own actions. A pattern names none: it may be meant for other audiences."""
    if allow is None or isinstance(allow, str):
        return ()
    named = {one.pattern if isinstance(one, Entry) else one for one in allow}
    if ASK in named:
        raise InvalidRequest(f"do not name {ASK} in `allow`: name in `may_ask` what the child may ask for")
    if ASK_APPROVAL in named:
        raise InvalidRequest(f"do not name {ASK_APPROVAL} in `allow`: a child may ask for the approvals that it needs")
    return tuple(one for one in allow if (one.pattern if isinstance(one, Entry) else one) in OWN_ACTIONS)


def _least(held: Sequence[Capability], coming: str, now: int) -> int:
    """The index of the capability to drop for another one, whose audience is `coming`."""
    # Grants at run time come after the capability that asked for them, so they are those behind its index.
    asked_with = max((index for index, one in enumerate(held) if one.audience == AUTHORITY), default=-1)

    grants = Counter([coming, *(one.audience for one in held[asked_with + 1 :])])

    def importance(index: int) -> tuple[bool, bool, bool, int, int, int]:
        one, opened = held[index], index < asked_with
        expired = any(caveat.at <= now for block in one.caveats for caveat in block if isinstance(caveat, Expires))
        # A service chooses what the agent asks for there, so its grants make room for each other.
        crowd = 0 if opened else grants[one.audience]
        return one.audience == AUTHORITY, not expired, opened, -crowd, one.issued_at, index

    return min(range(len(held)), key=importance)


def permits(capability: Capability, action: str) -> bool:
    """Whether all `allow` caveats have an entry for this action, whatever its arguments are; not verified."""
    return all(caveat.permits(action) for block in capability.caveats for caveat in block if isinstance(caveat, Allow))


def hops_between(above: Bundle, below: Bundle) -> list[str]:
    """The nonces of the hops from one node to another below it; InvalidRequest if it is not below."""
    own = above.path
    if not own or below.path[: len(own)] != own or len(below.path) == len(own):
        raise InvalidRequest("this bundle was not delegated from yours: an agent can revoke only nodes below its own")
    first, *others = next(iter(below)).caveats
    granted = [step.nonce for caveat in first if isinstance(caveat, Root) for step in caveat.steps]
    hops = [block[0].nonce for block in others if isinstance(block[0], Hop)]
    return [*granted, *hops][len(own) - 1 :]
