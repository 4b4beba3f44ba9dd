"""`capx explain`: a call, foreseen by what the token says itself."""

import math
import time
from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct

from capx_cli import arguments, completion, screen, words
from capx_cli.commands.present import chosen_audience
from capx_cli.failure import DENIED, DONE
from capx_cli.tokens import read_tokens, token_option

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.tree import Tree

    from capx.capability import Token
    from capx.lineage import Demand
    from capx_caveats import Call, Facts, Refusal

_WARNING = "NOTHING WAS VERIFIED: this is what the token says of itself. With the keys of a home: capx verify"
_MARKS = {"ok": ("ok", ""), "refuses": ("NO", screen.BAD), "open": ("? ", "yellow")}


class _Foreseen(Struct, frozen=True):
    """One restriction, whose it is, and whether it refuses, or whether only the resource can say."""

    hop: int
    whose: str
    sentence: str
    state: str
    why: str | None = None


@click.command()
@arguments.call_options
@click.option("--tenant", metavar="NAME", help="The tenant that the resource would state; else that is left open.")
@click.option(
    "--attribute",
    "attributes",
    multiple=True,
    metavar="NAME=TEXT",
    help="An attribute that the resource would state: region=eu is text, level:=3 is JSON. Repeatable.",
)
@click.option(
    "--audience",
    shell_complete=completion.held,
    help="The resource; else the action's first label, or the token's only audience.",
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@token_option
def explain(
    *,
    action: str | None,
    args: tuple[str, ...],
    tenant: str | None,
    attributes: tuple[str, ...],
    audience: str | None,
    as_json: bool,
    token_file: str | None,
) -> int:
    """Foresee a call: walk from hop to hop, and show which restriction of the token refuses it.

    For agents: needs no key, no home and no network, so it verifies nothing and knows of no death. What only the
    resource knows is left open (?). Exits with 1 when the token itself refuses the call: no resource allows it then.

    Example: capx explain --action slides.write --arg deck=deck-42
    """
    from capx_caveats import Call

    if action is None:
        raise click.UsageError("Missing option '--action'")
    call = Call(action, arguments.arguments(args), tenant=tenant, attributes=arguments.arguments(attributes))
    tokens = read_tokens(token_file)
    held = tuple(dict.fromkeys(token.audience for token in tokens))
    meant = chosen_audience(held, audience, action)
    if meant not in held:
        raise click.UsageError(f"this token speaks to {', '.join(held)}, not to {meant}: choose with --audience")
    walks = [_walk(token, call) for token in reversed(tokens) if token.audience == meant]
    walk = next((each for each in walks if not _refused(each)), walks[0])
    if as_json:
        screen.as_json(_as_json(walk, meant, call))
    else:
        _show(walk, meant, call)
    return DENIED if _refused(walk) else DONE


def _walk(token: "Token", call: "Call") -> list[_Foreseen]:
    from capx import wire
    from capx.decision import sentence, whose
    from capx.lineage import Refused, read
    from capx_caveats import DEFAULT, Facts

    frame = wire.decode(token.text)
    blocks = frame.blocks if words.presented(token) is None else frame.blocks[:-1]
    try:
        lineage = read(frame.identifier_bytes, blocks, DEFAULT, frozenset())
    except Refused as stop:
        return [_Foreseen(0, whose(0, None), sentence(stop.refusal), "refuses")]
    # Nothing was heard of deaths: what demands news of them is for the resource to say.
    facts = Facts(call, int(time.time()), math.inf)
    walk = [_foreseen(demand, facts) for demand in lineage.demands]
    if call.tenant is not None and lineage.tenant is None:
        walk.append(_Foreseen(0, whose(0, None), "names no tenant", "refuses", "the call is made for one"))
    for refusal in lineage.standing:
        hop = refusal.hop or 0
        walk.append(_Foreseen(hop, whose(hop, refusal.hop_name), refusal.sentence, "refuses"))
    return walk


def _foreseen(demand: "Demand", facts: "Facts") -> _Foreseen:
    from capx.decision import whose

    owner, sentence = whose(demand.hop, demand.name), demand.caveat.sentence()
    refusal = demand.caveat.refusal(facts)
    if refusal is None:
        return _Foreseen(demand.hop, owner, sentence, "ok")
    if _for_the_resource_to_say(demand, refusal, facts):
        return _Foreseen(demand.hop, owner, sentence, "open", "the resource says")
    return _Foreseen(demand.hop, owner, sentence, "refuses", refusal.sentence)


def _for_the_resource_to_say(demand: "Demand", refusal: "Refusal", facts: "Facts") -> bool:
    """Whether it refuses only for want of what a resource would state."""
    from capx_caveats import Tenant, Where

    caveat = demand.caveat
    if isinstance(caveat, Tenant):
        return facts.call.tenant is None
    if isinstance(caveat, Where):
        return not caveat.attribute.startswith("args.") and caveat.attribute not in facts.call.attributes
    return refusal.code in {"no_meter", "stale_liveness"}


def _refused(walk: "Iterable[_Foreseen]") -> bool:
    return any(each.state == "refuses" for each in walk)


def _show(walk: list[_Foreseen], audience: str, call: "Call") -> None:
    from rich.tree import Tree

    screen.say(_WARNING, screen.LOUD)
    if _refused(walk):
        screen.say(f"REFUSED BY THE TOKEN ITSELF  {call.action} at {audience}", f"bold {screen.BAD}")
    else:
        screen.say(f"NOT REFUSED BY THE TOKEN  {call.action} at {audience}", f"bold {screen.GOOD}")
    top = below = Tree(screen.text("task"))
    for whose, foreseen in _by_owner(walk):
        below = below.add(screen.text((whose, screen.STRONG)))
        for each in foreseen:
            _grow(below, each)
    for tree in top.children:
        screen.draw(tree)


def _grow(branch: "Tree", each: _Foreseen) -> None:
    mark, style = _MARKS[each.state]
    leaf = branch.add(screen.text((f"{mark}  {each.sentence}", style)))
    if each.why is not None and each.why != each.sentence:
        leaf.add(screen.text((each.why, screen.QUIET)))


def _by_owner(walk: list[_Foreseen]) -> "Iterator[tuple[str, list[_Foreseen]]]":
    """The restrictions of each hop together, in the order in which they were appended."""
    from itertools import groupby

    for (_, whose), foreseen in groupby(sorted(walk, key=lambda each: each.hop), key=lambda one: (one.hop, one.whose)):
        yield whose, list(foreseen)


def _as_json(walk: list[_Foreseen], audience: str, call: "Call") -> dict[str, Any]:
    import msgspec

    return {
        "verified": False,
        "refused": _refused(walk),
        "action": call.action,
        "audience": audience,
        "restrictions": [msgspec.to_builtins(each) for each in walk],
    }
