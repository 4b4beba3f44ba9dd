"""`capx call`: present a token, send a request, and explain the answer."""

import json
import os
import sys
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from capx_cli import agent_keys, completion, phrases, screen
from capx_cli.arguments import file_option
from capx_cli.calls import AUTHORITY, chosen_audience, read_body
from capx_cli.failure import DENIED, DONE, UNUSABLE, Unusable
from capx_cli.tokens import token_option

if TYPE_CHECKING:
    import httpx

_NOT_RECORDED = 401
_NOT_ALLOWED = 403
"""The status for a token that was not presented properly; it is not in any log."""


@click.command()
@click.argument("url")
@click.option("--method", metavar="METHOD", help="The HTTP method. Default: GET, or POST with a body.")
@click.option("--data", metavar="TEXT", help="The body.")
@file_option("--data-file", "The body, from a file.")
@click.option(
    "--content-type",
    metavar="TYPE",
    default="application/json",
    show_default=True,
    help="The Content-Type of the body.",
)
@click.option(
    "--audience",
    shell_complete=completion.held,
    help="The resource behind the URL. Not needed if the token is for one only.",
)
@click.option(
    "--timeout", type=phrases.Seconds(min=0.1, max=3_600), default=30.0, show_default=True, help="In seconds."
)
@agent_keys.agent_key_option
@token_option
def call(
    *,
    url: str,
    method: str | None,
    data: str | None,
    data_file: Path | None,
    content_type: str,
    audience: str | None,
    timeout: float,
    agent_key_file: Path | None,
    token_file: str | None,
) -> int:
    """Present a token for one HTTP request, send it, and write the body of the answer to standard output.

    If the service denies the call, the reasons go to standard error. Only the presentation leaves this machine, never
    the token. The command follows no redirect.

    Example: capx call https://crm.internal/accounts --audience crm
    """
    try:
        import httpx

        from capx.agent import httpx_client
    except ModuleNotFoundError as error:
        raise Unusable(f"capx call needs {error.name}: pip install 'capx-auth[httpx]'") from None
    if not url.lower().startswith(("http://", "https://")):
        raise click.UsageError(f"{url!r:.200} is not the URL of a service: write https://… or http://…")
    bundle = agent_keys.read_own_bundle(token_file, agent_key_file)
    body = read_body(data, data_file)
    headers = {} if body is None else {"content-type": content_type}
    wanted = (method or ("GET" if body is None else "POST")).upper()
    try:
        parsed = httpx.URL(url)
        origin = f"{parsed.scheme}://{parsed.netloc.decode('ascii')}"
        chosen = chosen_audience(bundle.audiences, audience, None)
        with httpx_client.client({origin: chosen}, bundle, timeout=timeout) as client:
            code = _tell(answer := client.request(wanted, parsed, content=body, headers=headers))
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise Unusable(f"cannot reach {url}: {error}") from None
    if code == DENIED and (needed := _to_approve(answer.content, chosen)) is not None:
        screen.note(f"  to get it approved: {needed}")
    meant_the_authority = parsed.path.startswith("/agent/") and AUTHORITY in bundle.audiences
    if code == DENIED and audience is None and chosen != AUTHORITY and meant_the_authority:
        screen.note(f"  this was presented to {chosen}; if an authority serves there, give --audience {AUTHORITY}")
    return code


def _tell(answer: "httpx.Response") -> int:
    _body(answer)
    problem = _problem(answer)
    if problem is None:
        screen.note(f"HTTP {answer.status_code} {answer.reason_phrase}")
        return UNUSABLE if answer.is_error else DONE
    screen.note(f"denied, HTTP {answer.status_code}", screen.LOUD)
    for reason in problem["reasons"]:
        screen.note(f"  {reason.get('code')}: {reason.get('sentence')}", screen.BAD)
        if reason.get("wanted"):
            screen.note(f"    wanted: {reason['wanted']}")
    if answer.status_code == _NOT_RECORDED:
        screen.note("  not recorded: the log holds only decisions about tokens that were presented properly")
    else:
        # A service that cannot decide may be unable to record that, too.
        where = "where the log is" if answer.status_code == _NOT_ALLOWED else "if it was recorded"
        screen.note(f"  decision {problem.get('decision')}: capx why shows it {where}")
    return DENIED


def _to_approve(content: bytes, audience: str) -> str | None:
    """Return the command that asks for the approval of the denied call; None if no approval would help."""
    from capx.api.problems import from_denial

    denied = from_denial(content, audience)
    if denied is None or denied.approve is None:
        return None
    needed = denied.approve
    args = [f"--arg {quote(f'{name}:={json.dumps(value)}')}" for name, value in needed.args.items()]
    return " ".join(["capx approval ask --action", needed.action, "--audience", needed.audience, *args])


def _body(answer: "httpx.Response") -> None:
    if sys.stdout.isatty():
        # A shell writes its prompt after the last character, so the body ends its line, once.
        if answer.text:
            screen.lines(answer.text.removesuffix("\n"))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(answer.content)
        sys.stdout.buffer.flush()
        # If both go to one place, what is said next would go on in the last line of the body.
        if answer.content and not answer.content.endswith(b"\n") and os.path.sameopenfile(1, 2):
            screen.note("")


def _problem(answer: "httpx.Response") -> dict[str, Any] | None:
    """Return the problem document of a denial by capx; None for any other answer."""
    import msgspec

    if not answer.is_error or "problem+json" not in answer.headers.get("content-type", ""):
        return None
    try:
        problem = msgspec.json.decode(answer.content, type=dict[str, Any])
        return {**problem, "reasons": msgspec.convert(problem.get("reasons"), list[dict[str, Any]])}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
