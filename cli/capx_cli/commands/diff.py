"""`capx diff`: show what a delegation took away."""

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from capx_cli import phrases, screen
from capx_cli.failure import DONE, UNUSABLE
from capx_cli.tokens import read_tokens
from capx_cli.view import json_option, say_named

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from capx.tokens.capability import Token
    from capx.tokens.effective.effective import Effective

_WARNING = "NOTHING WAS VERIFIED: this is what the tokens say about themselves. To check one: capx verify"
_STDIN = "-"


@click.command()
@click.argument("parent", metavar="PARENT", type=click.Path())
@click.argument("child", metavar="CHILD", type=click.Path())
@json_option
def diff(parent: str, child: str, as_json: bool) -> int:
    """Show what was taken away between two tokens: what each hop appended, and what can no longer be done.

    PARENT and CHILD are files with tokens. One may be `-`, standard input. This needs no key, and verifies nothing. The
    exit code is 3 if a part of CHILD does not descend from PARENT.

    Example: capx diff task.token slides.token
    """
    from capx.crypto.base64url import b64u

    if parent == child == _STDIN:
        raise click.UsageError("only one token can come from standard input: name a file for the other")
    parents, children = read_tokens(parent), read_tokens(child)
    pairs = [(_above(each, parents), each) for each in children]
    strange = {each.audience for above, each in pairs if above is None}
    left_out = [each for each in parents if each not in [above for above, _ in pairs] and each.audience not in strange]
    if as_json:
        found = [_as_json(*pair, parents) for pair in pairs]
        kept = [{"audience": each.audience, "id": b64u(each.id)} for each in left_out]
        screen.as_json({"verified": False, "audiences": found, "not_passed_on": kept})
    else:
        screen.say(_WARNING, screen.LOUD)
        for above, each in pairs:
            screen.say()
            _show(above, each, parents)
        for each in left_out:
            screen.say()
            screen.say(f"{each.audience}, capability {b64u(each.id)}: not passed on", screen.QUIET)
    return DONE if all(above is not None for above, _ in pairs) else UNUSABLE


def _above(child: "Token", parents: "Sequence[Token]") -> "Token | None":
    """Return the nearest token that this one descends from."""
    from capx.tokens.effective.difference import descends

    return max((each for each in parents if descends(child, each)), key=lambda each: len(each.ids), default=None)


def _stranger(child: "Token", parents: "Sequence[Token]") -> str:
    """Return why a token descends from none of these."""
    from capx.tokens.effective.difference import descends

    if any(descends(each, child) for each in parents):
        return "the order is wrong: PARENT was narrowed from CHILD, so swap them"
    if any(each.ids[0] == child.ids[0] for each in parents):
        return "both were narrowed from the same token, in different ways"
    if any(each.audience == child.audience for each in parents):
        return "it was minted separately"
    return f"PARENT holds nothing for {child.audience}"


def _show(parent: "Token | None", child: "Token", parents: "Sequence[Token]") -> None:
    if parent is None:
        screen.say(f"{child.audience}: CHILD does not descend from PARENT: {_stranger(child, parents)}", screen.BAD)
        return
    before, after = phrases.left_of(parent), phrases.left_of(child)
    holders = f"PARENT held by {phrases.holder(parent.hops)}, CHILD by {phrases.holder(child.hops)}"
    screen.say(f"{child.audience}: {holders}", screen.STRONG)
    for whose, sentences in _appended(parent, child):
        screen.say(f"  {whose} appended")
        for sentence in sentences:
            screen.say(f"    {sentence}")
    said = list(_changes(before, after)) or [("unchanged", "it can do all that PARENT can")]
    say_named(said, {"lost": screen.BAD, "allows nothing": screen.BAD})


def _appended(parent: "Token", child: "Token") -> "Iterator[tuple[str, list[str]]]":
    for whose, block in list(phrases.blocks(child))[len(parent.caveats) :]:
        yield whose, [caveat.sentence() for caveat in block]


def _changes(before: "Effective", after: "Effective") -> "Iterator[tuple[str, str]]":
    """Return what became less, as names and sentences."""
    from capx.tokens.effective.difference import losses
    from capx_caveats import shown

    yield from (("allows nothing", why) for why in after.why_nothing if why not in before.why_nothing)
    lost = () if after.why_nothing else losses(before, after)
    if lost is None:
        yield "narrowed", "there are too many entries to compare: see capx can for each"
    for loss in lost or ():
        if loss.left:
            yield "narrowed", f"{loss.entry.sentence()}, to {'; '.join(entry.sentence() for entry in loss.left)}"
        else:
            yield "lost", loss.entry.sentence()
    # Counted, not put in a set: two demands may look the same when a long value is cut.
    yield from (("and only where", demand) for demand in (Counter(after.also) - Counter(before.also)).elements())
    if after.tenant != before.tenant and after.tenant is not None:
        yield "for", f"tenant {shown(after.tenant)} only"
    if after.not_before is not None and after.not_before != before.not_before:
        yield "from", phrases.instant(after.not_before)
    if after.expires is not None and after.expires != before.expires:
        instead = "" if before.expires is None else f", no longer {phrases.instant(before.expires)}"
        yield "until", f"{phrases.instant(after.expires)}{instead}"
    yield from (("or until", f"task {task} ends") for task in after.until if task not in before.until)
    if after.hops_left is not None and after.hops_left != before.hops_left:
        yield "delegation", phrases.delegation(after.hops_left)


def _as_json(parent: "Token | None", child: "Token", parents: "Sequence[Token]") -> dict[str, Any]:
    from capx.crypto.base64url import b64u
    from capx.tokens.effective.difference import losses

    if parent is None:
        return {"audience": child.audience, "id": b64u(child.id), "descends": False, "why": _stranger(child, parents)}
    before, after = phrases.left_of(parent), phrases.left_of(child)
    lost = losses(before, after)
    return {
        "audience": child.audience,
        "id": b64u(child.id),
        "descends": True,
        "hops": list(child.hops[len(parent.hops) :]),
        "appended": [{"by": whose, "sentences": said} for whose, said in _appended(parent, child)],
        "lost": None
        if lost is None
        else [{"words": loss.entry.sentence(), "left": [entry.sentence() for entry in loss.left]} for loss in lost],
        "parent": before.as_json(),
        "child": after.as_json(),
    }
