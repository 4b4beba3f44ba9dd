"""`capx why`: a decision, as it was recorded."""

from typing import Any

import click

from capx_cli import screen, words


@click.command(context_settings=words.IDS)
@click.argument("decision")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def why(decision: str, as_json: bool) -> None:
    """Explain a recorded decision: who asked for what, and every reason.

    DECISION is the id in a problem document, a response header, or the log. A refusal before the
    presentation was burnt (not authentic, misshapen, used before) is answered and not recorded.

    Example: capx why c2VlIHRoZSBwcm9ibGVt
    """
    from capx.authority import Authority

    with Authority.open_home() as authority:
        event = authority.decision(decision)
    if event is None:
        raise click.UsageError(
            f"there is no decision {decision!r:.80} in this log: one made just now may come still; a refusal "
            "before the presentation was burnt (not authentic, misshapen, used before) is answered, not recorded"
        )
    facts = event.facts()
    if as_json:
        screen.as_json({**words.with_instants(facts), "position": event.position})
    else:
        _show(facts, event.position)


def _show(facts: dict[str, Any], position: int) -> None:
    from capx_caveats import shown_instant

    outcome = facts.get("outcome")
    style = f"bold {screen.GOOD if outcome == 'allowed' else screen.BAD}"
    screen.say(f"{str(outcome).upper()}  {facts.get('action') or 'an unknown action'} at {facts['audience']}", style)
    screen.say(f"  when    {shown_instant(facts['at'])}, position {position} of the log")
    screen.say(f"  who     {words.holder(facts['hops'])}")
    screen.say(f"  node    {facts['path'][-1] if facts['path'] else '-'}")
    screen.say(f"  task    {facts['task'] or '-'}")
    screen.say(f"  tenant  {facts['tenant'] or '-'}")
    for reason in facts["reasons"]:
        words.said_reason(reason)
