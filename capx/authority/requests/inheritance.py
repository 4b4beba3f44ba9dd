"""What a runtime grant inherits from the token that asks for it: where it stands, and all that restricts it.

    Authentic --read_asker--> Asker --(what the policy gives put in its middle)--> the authority's block of a grant

Laws: nothing that restricts the asker is lost on the way. `until_completed`, `where`, budgets with their counters, and
a service's own caveats are carried on as they are; times, freshness and hops left are folded to the tightest. What
cannot be carried on refuses the ask: a third-party caveat, another tenant further down, what is not understood. An
asker can be told again from the block that was made for it.
"""

from collections.abc import Iterator
from typing import Final, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct

from capx.crypto.base64url import b64u, unb64u
from capx.errors import CapxError
from capx.store.protocols import Reading
from capx.store.records import Damaged, RequestRecord
from capx.tokens.chain import Block, ThirdParty
from capx.tokens.lineage import Lineage, caveats_of, read_lineage, sections_of
from capx.tokens.revocation_key import RevocationKey, of_kid
from capx.verify.verifier import Authentic
from capx_caveats import (
    DEFAULT,
    Allow,
    Budget,
    Caveat,
    Expires,
    Fresh,
    Holder,
    Hop,
    Intent,
    MaxHops,
    NotBefore,
    NotUnderstood,
    Presented,
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
"""What is understood here: `allow`, hops and signatures are heeded when the ask is judged, all others live on."""
_elements = msgspec.json.Decoder(list[Raw])


class Asker(Struct, frozen=True, kw_only=True):
    """Who asks; ids and nodes are 16 bytes each, times Unix seconds, `labels` those of the path behind its root.

    `until` are the tasks that must not have ended. `claims` and `inherited` are what a grant's block says before and
    behind what the policy gives, each caveat as JSON; `refusals` are why there can be no grant at all.
    """

    task: str
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

    @property
    def node(self) -> bytes:
        """Where it stands, and where a grant to it will stand."""
        return self.path[-1]

    @property
    def revocation_keys(self) -> tuple[RevocationKey, ...]:
        """The keys of all deaths that would end it, but for those of instants."""
        return (*self.until, *self.path, *self.ids, of_kid(self.kid))


class _Stated(Struct, frozen=True):
    """One caveat of the chain: the number of hops before it, the counter of a budget that names none, and its JSON."""

    caveat: Caveat
    hop: int
    counter: bytes
    raw: bytes


def read_asker(authentic: Authentic) -> Asker:
    """Who presented a capability for the authority itself, once the presentation was admitted."""
    frame = authentic.frame
    last = caveats_of(frame.blocks[-1], DEFAULT)
    blocks = frame.blocks[:-1] if last and isinstance(last[0], Presented) else frame.blocks
    lineage = read_lineage(frame, blocks, DEFAULT, frozenset())
    stated = tuple(_stated(lineage, blocks))
    until = tuple(dict.fromkeys([lineage.task, *(one.task for one in _all(stated, UntilCompleted))]))
    return Asker(
        task=lineage.task,
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
        refusals=tuple(_refusals(lineage, blocks, stated)),
    )


def asker_of(request: RequestRecord) -> Asker:
    """The asker that a request was made by, as its record tells it; Damaged if that tells none."""
    try:
        return _kept(request)
    except (ValueError, msgspec.MsgspecError, CapxError):
        raise Damaged("a request of the store is none that capx wrote: restore it from a backup") from None


def _kept(request: RequestRecord) -> Asker:
    raw = request.block.encode()
    pieces = [bytes(piece) for piece in _elements.decode(raw)]
    caveats = DEFAULT.decode(raw)
    kinds = [type(caveat) for caveat in caveats]
    expires = kinds.index(Expires)
    return Asker(
        task=request.task,
        tenant=next((caveat.name for caveat in caveats if isinstance(caveat, Tenant)), None),
        path=tuple(map(unb64u, request.path)),
        labels=request.labels,
        ids=tuple(map(unb64u, request.ids)),
        kid=request.kid,
        issued=request.issued,
        expires=next(caveat.at for caveat in caveats if isinstance(caveat, Expires)),
        until=tuple(caveat.task for caveat in caveats if isinstance(caveat, UntilCompleted)),
        claims=tuple(pieces[: kinds.index(Allow)]),
        inherited=tuple(pieces[expires + 1 :]),
    )


def is_dead(reading: Reading, asker: Asker) -> bool:
    """Whether it was revoked, or what it descends from, or a task that it lasts as long as has ended."""
    return any(reading.death(key) for key in asker.revocation_keys) or asker.issued <= reading.revoked_until()


def spelt(caveat: Caveat) -> bytes:
    """A caveat as it stands in a block."""
    return msgspec.json.encode(caveat.wire())


def _stated(lineage: Lineage, blocks: tuple[Block, ...]) -> Iterator[_Stated]:
    decoded = [caveats_of(block, DEFAULT) for block in blocks]
    granted_at = len(lineage.hops) - sum(bool(caveats) and type(caveats[0]) is Hop for caveats in decoded[1:])
    for at, (section, block) in enumerate(zip(sections_of(decoded, granted_at), blocks, strict=True)):
        first = bool(section.caveats) and type(section.caveats[0]) is Hop
        counter = lineage.path[section.hop] if first else lineage.ids[at + 1]
        for caveat, raw in zip(section.caveats, _pieces(block, section.caveats), strict=True):
            yield _Stated(caveat, max(section.hop, granted_at), counter, raw)


def _pieces(block: Block, caveats: tuple[Caveat, ...]) -> list[bytes]:
    """The JSON of each caveat of a block; of a service's own, as it was spelt."""
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
    """What each limit of hops leaves for those below the asker."""
    came = len(lineage.hops)
    return [one.caveat.n - (came - one.hop) for one in stated if isinstance(one.caveat, MaxHops)]


def _refusals(lineage: Lineage, blocks: tuple[Block, ...], stated: tuple[_Stated, ...]) -> Iterator[Refusal]:
    if any(isinstance(block, ThirdParty) for block in blocks):
        yield _not_inherited("it is bound to the approval of somebody else, which no grant can carry")
    for name in dict.fromkeys(tenant.name for tenant in _all(stated, Tenant)):
        if name != lineage.tenant:
            yield _not_inherited("it is bound to another tenant than that of its task")
    if any(left < 0 for left in _hops_left(lineage, stated)):
        yield _not_inherited("it was delegated further than it may be")
    for one in stated:
        if type(one.caveat) not in _HEEDED and not (isinstance(one.caveat, NotUnderstood) and one.caveat.own):
            yield _not_inherited(f"it holds what is not understood here ({one.caveat.sentence()})")


def _not_inherited(why: str) -> Refusal:
    return Refusal("not_inherited", f"what restricts the asker cannot be carried on: {why}", "an asker without that")


def _all(stated: tuple[_Stated, ...], kind: type[C]) -> list[C]:
    return [one.caveat for one in stated if isinstance(one.caveat, kind)]
