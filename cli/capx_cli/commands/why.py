"""`capx why`: a decision, as it was recorded."""

from typing import TYPE_CHECKING

import click

from capx_cli import completion, screen, words

if TYPE_CHECKING:
    from capx.log import Event


@click.command(context_settings=words.IDS)
@click.argument("decision", shell_complete=completion.decisions)
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def why(decision: str, as_json: bool) -> None:
    """Explain a recorded decision: who asked for what, and every reason.

    DECISION is the id in a problem document, a response header, or the log. A refusal before the
    presentation was burnt (not authentic, misshapen, used before) is answered and not recorded. `last` is the
    newest denial; `capx find` shows others.

    Example: capx why last
    """
    from capx.authority import Authority
    from capx_cli import events

    with Authority.open_home() as authority:
        newest = decision == "last"
        event = next(authority.find(denied=True, limit=1), None) if newest else authority.decision(decision)
    if event is None and newest:
        raise click.UsageError("no denial was recorded yet")
    if event is None:
        raise click.UsageError(
            f"there is no decision {decision!r:.80} in this log: one made just now may come still; a refusal "
            "before the presentation was burnt (not authentic, misshapen, used before) is answered, not recorded"
        )
    if as_json:
        screen.as_json(events.decision_as_json(event))
    else:
        _show(event)


def _show(event: "Event") -> None:
    from capx_caveats import shown_instant
    from capx_cli.events import Decided

    decision = event.read(Decided)
    style = f"bold {screen.GOOD if decision.outcome == 'allowed' else screen.BAD}"
    screen.say(f"{decision.outcome.upper()}  {decision.wanted}", style)
    screen.say(f"  when    {shown_instant(event.at)}, position {event.position} of the log")
    screen.say(f"  who     {words.holder(decision.hops)}")
    screen.say(f"  node    {decision.node or '-'}")
    screen.say(f"  task    {decision.task or '-'}")
    screen.say(f"  tenant  {decision.tenant or '-'}")
    for reason in decision.reasons:
        words.said_reason(reason)
