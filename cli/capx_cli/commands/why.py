"""`capx why`: a decision, as it was recorded."""

from typing import Any

import click

from capx_cli import completion, screen, words


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
        from capx_cli.events import decision_as_json

        screen.as_json(decision_as_json(event))
    else:
        _show(event.facts(), event.position)


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
