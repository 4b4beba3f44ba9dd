"""`capx explain`: foresee a call from what the token itself says."""

import time
from typing import TYPE_CHECKING

import click

from capx_cli import screen
from capx_cli.calls import judged_call
from capx_cli.failure import DENIED, DONE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.tree import Tree

    from capx.tokens.effective.prediction import Forecast, Prediction
    from capx_caveats import Call
    from capx_cli.tokens import Tokens

    Walk = tuple[Prediction, ...]

_WARNING = (
    "NOTHING WAS VERIFIED: this is what the token says about itself. To check it with the keys of a home: capx verify"
)
_OPEN = ("? ", "yellow")
_MARKS = {"ok": ("ok", ""), "refuses": ("NO", screen.BAD), "open": _OPEN, "not_understood": _OPEN}


@click.command()
@judged_call(must_hold=True)
def explain(*, call: "Call", audience: str, tokens: "Tokens", as_json: bool) -> int:
    """Foresee a call: walk from hop to hop, and show which restriction of the token denies it.

    This is for agents. It needs no key, no home and no network. So it verifies nothing, and it does not know what was
    revoked. A restriction is marked (?) if only the resource knows the answer, or if capx does not understand it, such
    as a service's own caveat. The exit code is 1 if the token itself denies the call: then every resource denies it.

    Example: capx explain --action slides.write --arg deck=deck-42
    """
    from capx.tokens.effective.prediction import forecast

    foreseen = forecast(tokens, call, audience, int(time.time()), tokens.approvals)
    if as_json:
        said = {"verified": False, "refused": foreseen.refused, "action": call.action, "audience": audience}
        screen.as_json({**said, "restrictions": foreseen.restrictions})
    else:
        _show(foreseen, call)
    return DENIED if foreseen.refused else DONE


def _show(forecast: "Forecast", call: "Call") -> None:
    from rich.tree import Tree

    what, walk = f"{call.action} at {forecast.audience}", forecast.restrictions
    screen.say(_WARNING, screen.LOUD)
    if forecast.refused:
        screen.say(f"REFUSED BY THE TOKEN ITSELF  {what}", f"bold {screen.BAD}")
    elif any(each.state == "not_understood" for each in walk):
        screen.say(f"NOT REFUSED, AS FAR AS IS UNDERSTOOD HERE  {what}", "bold yellow")
    else:
        screen.say(f"NOT REFUSED BY THE TOKEN  {what}", f"bold {screen.GOOD}")
    top = below = Tree(screen.text("task"))
    for whose, foreseen in _by_owner(walk):
        below = below.add(screen.text((whose, screen.STRONG)))
        for each in foreseen:
            _grow(below, each)
    for tree in top.children:
        screen.draw(tree)


def _grow(branch: "Tree", each: "Prediction") -> None:
    mark, style = _MARKS[each.state]
    leaf = branch.add(screen.text((f"{mark}  {each.sentence}", style)))
    if each.why is not None and each.why != each.sentence:
        leaf.add(screen.text((each.why, screen.QUIET)))


def _by_owner(walk: "Walk") -> "Iterator[tuple[str, Walk]]":
    """Group the restrictions of each hop, in the order in which they were appended."""
    from itertools import groupby

    for (_, whose), foreseen in groupby(sorted(walk, key=lambda each: each.hop), key=lambda one: (one.hop, one.whose)):
        yield whose, tuple(foreseen)
