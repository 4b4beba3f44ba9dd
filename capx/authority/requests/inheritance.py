"""The node and the restrictions that a run-time grant inherits from the token that asks for it.

    Authentic --read_asker--> Asker --(what the policy gives put in its middle)--> the authority's block of a grant

Laws:

- A grant loses no restriction of the asker. `until_completed`, `where`, budgets with their counters, and a service's
  own caveats are copied as they are. Of times, freshness and hops left, the grant gets the tightest.
- A demand for an approval is carried on: the grant has the same cid, with its key sealed under its own tail. So one
  approval serves both tokens, and no ask goes round a demand.
- If a restriction cannot be copied, the ask is refused: another third-party caveat, another tenant further down, or a
  caveat that is not understood.
- A grant is bound to the last key of the asker's token, at the asker's node.
- The asker can be read again from the block that was made for it.
"""

from collections.abc import Iterator
from typing import Final, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct

from capx.crypto.base64url import b64u, unb64u
from capx.errors import CapxError
from capx.store.protocols import Reading
from capx.store.records import Damaged, RequestRecord
from capx.tokens.approval_caveat import KeyedCaveat
from capx.tokens.chain import Block
from capx.tokens.grants import ASK
from capx.tokens.lineage import Lineage, caveats_of, read_lineage, sections_of
from capx.tokens.revocation_key import RevocationKey, of_key, of_kid
from capx.verify.approvals import keyed_caveats
from capx.verify.ask import Ask
from capx.verify.evidence import ShownToken
from capx.verify.verifier import Authentic
from capx_caveats import (
    DEFAULT,
    Allow,
    Budget,
    Call,
    Caveat,
    Entry,
    Expires,
    Facts,
    Fresh,
    Holder,
    Hop,
    Intent,
    MaxHops,
    NotBefore,
    NotUnderstood,
    Refusal,
    Root,
    Sig,
    Step,
    Task,
    Tenant,
    UntilCompleted,
    Where,
)

C = TypeVar("C", bound=Caveat)

_HEEDED: Final[frozenset[type[Caveat]]] = frozenset(
    {
        *(Task, Intent, Root, Tenant, Holder, Hop, Sig, Allow),
        *(UntilCompleted, Where, Budget, Expires, NotBefore, Fresh, MaxHops),
    }
)
"""Caveats that are understood here. `allow`, hops and signatures are checked when the ask is judged; a grant gets the
others."""
_NOT_OURS: Final = "the store holds a request that capx did not write: restore it from a backup"
_elements = msgspec.json.Decoder(list[Raw])


class Asker(Struct, frozen=True, kw_only=True):
    """The agent that asks, and what its token says.

    `intent` is the digest that its token names. Ids and nodes are 16 bytes each, `keys` are the public keys of its
    holders (32 bytes each), from first to last. Times are Unix seconds, `labels` are those of the path after its root.
    `until` are the tasks that must not have ended. A grant's block is `claims`, then what the policy gives, then
    `inherited`, each caveat as JSON. If there are `refusals`, there can be no grant at all. `pins_all` says that a
    delegator lets it ask only for certain arguments, so a grant is pinned to all that it names, even if the policy
    would pin fewer. `demands` are the demands for approvals in its token, with their keys, and `token` are its public
    bytes; a record has neither.
    """

    task: str
    intent: str | None
    tenant: str | None
    path: tuple[bytes, ...]
    labels: tuple[str, ...]
    ids: tuple[bytes, ...]
    kid: str
    issued: int
    expires: int
    until: tuple[str, ...]
    claims: tuple[bytes, ...]
    inherited: tuple[bytes, ...]
    refusals: tuple[Refusal, ...] = ()
    pins_all: bool = False
    keys: tuple[bytes, ...] = ()
    demands: tuple[KeyedCaveat, ...] = ()
    token: ShownToken | None = None

    @property
    def node(self) -> bytes:
        """The node of the asker, which is also the node of a grant to it."""
        return self.path[-1]

    @property
    def revocation_keys(self) -> tuple[RevocationKey, ...]:
        """The keys of all deaths that would kill the asker, except those of instants."""
        return (*self.until, *self.path, *self.grant_ids, of_kid(self.kid))

    @property
    def grant_ids(self) -> tuple[bytes, ...]:
        """The ids whose deaths kill a grant to the asker, though the grant does not have all of them itself.

        A grant names the last key of the asker only. The keys before that one end it, too.
        """
        return tuple(dict.fromkeys((*self.ids, *map(of_key, self.keys))))

    @property
    def written_keys(self) -> tuple[str, ...]:
        """Its keys as people write them."""
        if not self.keys:
            return ()
        from capx.crypto.ed25519 import public_text  # slow to import, and only keyed tokens need it

        return tuple(map(public_text, self.keys))


class _Stated(Struct, frozen=True):
    """One caveat of the chain: the number of hops before it, the counter of a budget that names none, and its JSON."""

    caveat: Caveat
    hop: int
    counter: bytes
    raw: bytes


def read_asker(authentic: Authentic, ask: Ask) -> Asker:
    """The agent that presented a capability for the authority itself, to ask for this.

    The presentation must have been admitted, and the ask must have been allowed as a call.
    """
    # The presentation binds it to this one call. It is not a restriction that a grant inherits.
    frame, blocks = authentic.frame, authentic.shown.blocks
    lineage = read_lineage(frame, blocks, DEFAULT, frozenset())
    stated = tuple(_stated(lineage, blocks))
    until = tuple(dict.fromkeys([lineage.task, *(one.task for one in _all(stated, UntilCompleted))]))
    # Each once: one approval discharges the same demand in one place.
    carried = tuple(dict.fromkeys(keyed_caveats(frame, authentic.key, blocks)))
    return Asker(
        task=lineage.task,
        intent=lineage.intent,
        tenant=lineage.tenant,
        path=lineage.path,
        labels=lineage.hops,
        ids=lineage.ids,
        kid=frame.identifier.kid,
        issued=lineage.issued,
        expires=lineage.expires,
        until=until,
        claims=tuple(map(spelt, _claims(lineage, stated))),
        inherited=tuple(dict.fromkeys(_inherited(lineage, stated))),
        refusals=tuple(_refusals(lineage, carried, stated)),
        pins_all=ask.demand is not None or not _may_ask_for_any(stated, ask),
        keys=lineage.keys,
        demands=tuple([one for one in carried if one is not None]),
        token=authentic.shown,
    )


def _may_ask_for_any(stated: tuple[_Stated, ...], ask: Ask) -> bool:
    """Whether every allowlist of the chain lets it ask for this action with any arguments."""
    free = Call(ASK, Ask(audience=ask.audience, action=ask.action).arguments())
    # Allowlists judge only the call, so the time and the age do not matter.
    facts = Facts(free, now=0, age=0)
    return all(allow.refusal(facts) is None for allow in _all(stated, Allow))


def asker_of(request: RequestRecord) -> Asker:
    """The asker of a request, read from its record; Damaged if the record cannot be read."""
    try:
        return _kept(request)
    except (ValueError, msgspec.MsgspecError, CapxError):
        raise Damaged(_NOT_OURS) from None


def _kept(request: RequestRecord) -> Asker:
    # `offering` has made the block in this order: claims, the policy's `allow`, …, `expires`, then the inherited ones.
    raw = request.block.encode()
    pieces = [bytes(piece) for piece in _elements.decode(raw)]
    caveats = DEFAULT.decode(raw)
    # By tag: an `allow` of the policy may hold a service's own constraint, which is not understood here.
    tags = [msgspec.json.decode(piece)[0] for piece in pieces]
    expires = tags.index("expires")
    return Asker(
        task=request.task,
        intent=next((caveat.digest for caveat in caveats if isinstance(caveat, Intent)), None),
        tenant=next((caveat.name for caveat in caveats if isinstance(caveat, Tenant)), None),
        path=tuple(map(unb64u, request.path)),
        labels=request.labels,
        ids=tuple(map(unb64u, request.ids)),
        kid=request.kid,
        issued=request.issued,
        expires=next(caveat.at for caveat in caveats if isinstance(caveat, Expires)),
        until=tuple(caveat.task for caveat in caveats if isinstance(caveat, UntilCompleted)),
        claims=tuple(pieces[: tags.index("allow")]),
        inherited=tuple(pieces[expires + 1 :]),
        # As when it was asked: the grant was pinned to all arguments, or the record has the others, too.
        pins_all=request.all_args is None,
        keys=_read_keys(request.keys),
    )


def _read_keys(written: tuple[str, ...]) -> tuple[bytes, ...]:
    if not written:
        return ()
    from capx.crypto.ed25519 import parse_public  # slow to import, and only keyed tokens need it

    return tuple(map(parse_public, written))


def allowlists(request: RequestRecord) -> tuple[bytes, bytes]:
    """The `allow` of a request's block that the policy gives, and the one for what was asked, both as JSON.

    Damaged if the record cannot be read.
    """
    try:
        pieces = map(bytes, _elements.decode(request.block.encode()))
        # By tag, as above: the policy's own may not be understood here.
        offered, asked = [piece for piece in pieces if msgspec.json.decode(piece)[0] == "allow"]
    except (ValueError, msgspec.MsgspecError):
        raise Damaged(_NOT_OURS) from None
    return offered, asked


def asked_entry(request: RequestRecord) -> Entry:
    """The entry of a request's block that pins the grant to what was asked."""
    _, asked = allowlists(request)
    (allow,) = DEFAULT.decode(b"[" + asked + b"]")
    if not isinstance(allow, Allow):
        raise Damaged(_NOT_OURS)
    return allow.entries[0]


def is_dead(reading: Reading, asker: Asker) -> bool:
    """Whether the token of the asker, or one above it, was revoked, or a task has ended that it depends on."""
    return bool(reading.deaths_of(asker.revocation_keys)) or asker.issued <= reading.revoked_until()


def spelt(caveat: Caveat) -> bytes:
    """A caveat as JSON, as a block holds it."""
    return msgspec.json.encode(caveat.wire())


def _stated(lineage: Lineage, blocks: tuple[Block, ...]) -> Iterator[_Stated]:
    decoded = [caveats_of(block, DEFAULT) for block in blocks]
    # The root of a run-time grant holds the first hops as steps. Only the other hops are blocks.
    granted_at = len(lineage.hops) - sum(bool(caveats) and type(caveats[0]) is Hop for caveats in decoded[1:])
    for at, (section, block) in enumerate(zip(sections_of(decoded, granted_at), blocks, strict=True)):
        # A budget must keep its counter, so this chooses the counter as `read_lineage` does.
        first = bool(section.caveats) and type(section.caveats[0]) is Hop
        counter = lineage.path[section.hop] if first else lineage.ids[at + 1]
        for caveat, raw in zip(section.caveats, _pieces(block, section.caveats), strict=True):
            yield _Stated(caveat, max(section.hop, granted_at), counter, raw)


def _pieces(block: Block, caveats: tuple[Caveat, ...]) -> list[bytes]:
    """The JSON of each caveat of a block. The caveat of a service stays byte for byte: nobody here understands it."""
    own = any(isinstance(caveat, NotUnderstood) and caveat.own for caveat in caveats)
    raw = map(bytes, _elements.decode(block)) if own and isinstance(block, bytes) else (b"" for _ in caveats)
    return [
        piece if type(caveat) is NotUnderstood else spelt(caveat) for caveat, piece in zip(caveats, raw, strict=True)
    ]


def _claims(lineage: Lineage, stated: tuple[_Stated, ...]) -> Iterator[Caveat]:
    yield Task(lineage.task)
    if lineage.intent is not None:
        yield Intent(lineage.intent)
    steps = _steps(stated)
    yield Root(lineage.root, steps) if steps else Root(lineage.root)
    yield UntilCompleted(lineage.task)
    if lineage.tenant is not None:
        yield Tenant(lineage.tenant)
    if keys := [key for one in stated if (key := _key_named(one.caveat)) is not None]:
        yield Holder(keys[-1])


def _steps(stated: tuple[_Stated, ...]) -> tuple[Step, ...]:
    root = _all(stated, Root)[0]
    return (*root.steps, *(Step(hop.to, hop.nonce) for hop in _all(stated, Hop)))


def _key_named(caveat: Caveat) -> str | None:
    if isinstance(caveat, Holder):
        return caveat.key
    return caveat.key if isinstance(caveat, Hop) and caveat.key is not UNSET else None


def _inherited(lineage: Lineage, stated: tuple[_Stated, ...]) -> Iterator[bytes]:
    for one in stated:
        caveat = one.caveat
        if isinstance(caveat, Budget):
            counter = b64u(one.counter) if caveat.counter is UNSET else caveat.counter
            yield spelt(Budget(caveat.unit, caveat.limit, counter))
        elif isinstance(caveat, NotUnderstood):
            # Any other that is not understood here refuses the ask: see `_refusals`.
            if caveat.own:
                yield one.raw
        elif isinstance(caveat, Where) or (isinstance(caveat, UntilCompleted) and caveat.task != lineage.task):
            yield one.raw
    begins = [caveat.at for caveat in _all(stated, NotBefore)]
    ages = [caveat.seconds for caveat in _all(stated, Fresh)]
    left = _hops_left(lineage, stated)
    yield from (spelt(NotBefore(max(begins))) for _ in begins[:1])
    yield from (spelt(Fresh(min(ages))) for _ in ages[:1])
    yield from (spelt(MaxHops(max(0, min(left)))) for _ in left[:1])


def _hops_left(lineage: Lineage, stated: tuple[_Stated, ...]) -> list[int]:
    """For each limit of hops, the number of hops that are left below the asker."""
    came = len(lineage.hops)
    return [one.caveat.n - (came - one.hop) for one in stated if isinstance(one.caveat, MaxHops)]


def _refusals(
    lineage: Lineage, demands: tuple[KeyedCaveat | None, ...], stated: tuple[_Stated, ...]
) -> Iterator[Refusal]:
    if None in demands:
        yield _not_inherited("it has a third-party caveat that is no demand for an approval which its key opens")
    # A grant names its last holder alone, and a verifier would not see that somebody above it acts and approves.
    if any(not set(lineage.keys).isdisjoint(one.approvers) for one in demands if one is not None):
        yield _not_inherited("it demands the approval of a key with which an agent of it acts")
    for name in dict.fromkeys(tenant.name for tenant in _all(stated, Tenant)):
        if name != lineage.tenant:
            yield _not_inherited("it is bound to a tenant that is not the tenant of its task")
    if any(left < 0 for left in _hops_left(lineage, stated)):
        yield _not_inherited("it has more delegations than it allows")
    for one in stated:
        if type(one.caveat) not in _HEEDED and not (isinstance(one.caveat, NotUnderstood) and one.caveat.own):
            yield _not_inherited(f"it holds a caveat that is not understood here ({one.caveat.sentence()})")


def _not_inherited(why: str) -> Refusal:
    return Refusal("not_inherited", f"the asker cannot pass its restrictions on: {why}", "an asker without that")


def _all(stated: tuple[_Stated, ...], kind: type[C]) -> list[C]:
    return [one.caveat for one in stated if isinstance(one.caveat, kind)]
