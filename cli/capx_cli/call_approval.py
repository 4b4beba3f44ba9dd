"""Demand, show and sign the approval of one call.

Laws: a person sees the whole call before they sign, nothing shortened. What a file says is a claim, and is shown under
a head that says so. An approval goes to standard output, or to a file that only its owner may read.
"""

import sys
import time
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from capx.crypto.base64url import b64u
from capx.errors import InvalidRequest, MalformedToken
from capx.tokens.approval_caveat import LASTS, ApprovalCaveat, ApprovalTerms, approval, read_approval_caveat
from capx.tokens.approval_request import ApprovalRequest
from capx.tokens.discharge import Discharge
from capx_caveats import Caveat, Expires, Signed, parse_duration, shown_instant
from capx_caveats.shown_values import whole
from capx_cli import intents, own_keys, screen
from capx_cli.arguments import Command, repeatable, with_options
from capx_cli.escape import clean
from capx_cli.failure import DONE, NOTHING, Unusable, contents

if TYPE_CHECKING:
    from capx.authority.requests.inquiry import Inquiry
    from capx.intents.principal_key import PrincipalKey
    from capx_cli.target import Anyone
    from capx_cli.token_output import Output

ANY_NUMBER = "any"
"""The value of `--uses` with which an approval is good for any number of calls, until it expires."""
TO_GET_IT = (
    "To get it approved: capx approval ask, with the same --action and --arg, writes a request for these people; or "
    "capx ask ACTION --with … --approval asks the authority."
)
"""What to do about a call that only lacks an approval."""
CLAIMS = "Nothing here was verified: it is what the sender of the file says."
_MOST = 64 * 1024
_OPTIONS = {"`by`": "--approval-by", "`count`": "--approvals", "`lasts`": "--approval-lasts"}
"""What the parameters of `capx.approval` are called here."""


class Signing(NamedTuple):
    """The values of `--uses`, `--lasts` and `--cosign`."""

    uses: str | None
    lasts: str | None
    cosign: Path | None

    def sign(self, request: ApprovalRequest, key: "PrincipalKey", other: Discharge | None) -> Discharge:
        """Return the approval of a request, or that of others with one more signature.

        UsageError for options that do not go together.
        """
        if other is None:
            lasts = None if self.lasts is None else parse_duration(self.lasts)
            return key.approve(request, uses=_uses(self.uses), lasts=lasts)
        if self.uses is not None or self.lasts is not None:
            raise click.UsageError(
                "somebody has signed this approval already, and it says for how long and how often: leave out --uses "
                "and --lasts"
            )
        return key.cosign(request, other)


AS_USUAL = Signing(None, None, None)
"""Signing without any option."""


def _uses(typed: str | None) -> int | None:
    if typed is None:
        return 1
    if typed == ANY_NUMBER:
        return None
    from capx.tokens.approving import MOST_USES

    uses = int(typed) if typed.isascii() and typed.isdigit() and len(typed) <= len(str(MOST_USES)) else 0
    if not 0 < uses <= MOST_USES:
        raise click.UsageError(f"--uses {typed:.40}: write a whole number from 1 to {MOST_USES}, or {ANY_NUMBER}")
    return uses


def signing_options(command: Command) -> Command:
    """Add `--uses`, `--lasts` and `--cosign` to a command, which gets them as one `signing`."""

    @wraps(command)
    def collected(**given: Any) -> Any:
        return command(signing=Signing(*(given.pop(name) for name in Signing._fields)), **given)

    return with_options(
        collected,
        click.option(
            "--uses",
            metavar="N",
            help=f"For an approval: for how many calls it is good, or {ANY_NUMBER}. Default: one.",
        ),
        click.option(
            "--lasts",
            metavar="TIME",
            help="For an approval: how long it is good, such as 5m. Default: ten minutes, or what the token permits.",
        ),
        click.option(
            "--cosign",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="With --file: an approval that somebody else has signed, to sign it as well. It keeps its uses and "
            "its time.",
        ),
    )


def demand_options(command: Command) -> Command:
    """Add the options with which a token demands approvals; the command gets them as one `approval`."""

    @wraps(command)
    def collected(
        *, approval_by: tuple[str, ...], approvals: int | None, approval_lasts: str | None, **others: Any
    ) -> Any:
        return command(approval=_terms(approval_by, approvals, approval_lasts), **others)

    return with_options(
        collected,
        repeatable(
            "--approval-by",
            "approval_by",
            "ed25519:…",
            "Each call then needs the approval of the person with this key, as capx principal show writes it.",
        ),
        click.option(
            "--approvals",
            type=click.IntRange(min=1),
            metavar="N",
            help="How many of these people must sign each approval. Default: one.",
        ),
        click.option("--approval-lasts", metavar="TIME", help="How long an approval may last. Default: 15m."),
    )


def _terms(by: tuple[str, ...], count: int | None, lasts: str | None) -> ApprovalTerms | None:
    if not by:
        if count is not None or lasts is not None:
            raise click.UsageError("--approvals and --approval-lasts need --approval-by: whose approval is it?")
        return None
    try:
        return approval(by=by, count=1 if count is None else count, lasts=LASTS if lasts is None else lasts)
    except InvalidRequest as problem:
        said = str(problem)
        for name, option in _OPTIONS.items():
            said = said.replace(name, option)
        raise click.UsageError(said) from None


def read_request(file: str) -> ApprovalRequest:
    """Return the request for an approval in a file; - is standard input. InvalidRequest names the file."""
    return _request(_bytes(file), file)


def read_discharge(file: str) -> Discharge:
    """Return the approval in a file; - is standard input. Unusable names the file."""
    return _discharge(_bytes(file), file)


def read(file: str) -> ApprovalRequest | Discharge:
    """Return the request or the approval in a file; - is standard input."""
    data = _bytes(file)
    return _request(data, file) if data.lstrip().startswith(b"{") else _discharge(data, file)


def _request(data: bytes, file: str) -> ApprovalRequest:
    try:
        return ApprovalRequest.parse(data)
    except InvalidRequest as error:
        raise InvalidRequest(str(error) if file == intents.STDIN else f"{file}: {error}") from None


def _discharge(data: bytes, file: str) -> Discharge:
    try:
        return Discharge.parse(data.decode("ascii", "replace").strip())
    except MalformedToken as error:
        raise Unusable(f"{file}: this is no approval: {error}") from None


def _bytes(file: str) -> bytes:
    if file == intents.STDIN:
        return sys.stdin.buffer.read(_MOST + 1)
    return contents(Path(file), _MOST + 1)


def show_request(request: ApprovalRequest, other: Discharge | None = None, *, on_stderr: bool = False) -> None:
    """Show a request that came as a file, and what others have signed of it."""
    from capx.authority.requests.inquiry import request_sentences

    intents.say(CLAIMS, screen.LOUD, on_stderr=on_stderr)
    for sentence in request_sentences(request, None if other is None else other.text):
        intents.say(f"  {sentence}", on_stderr=on_stderr)


def show_discharge(discharge: Discharge) -> None:
    """Show what an approval says of itself, and how it is taken back."""
    found = facts(discharge)
    for block in found["blocks"]:
        for sentence in block:
            screen.say(f"  {sentence}")
    screen.say(f"  id {found['id']}: capx revoke takes the approval back", screen.QUIET)


def approve_file(file: str, *, name: str | None, sure: bool, signing: Signing, output: "Output") -> int:
    """Show the request in a file, sign its approval, and write that; return the exit code."""
    request = read_request(file)
    other = None if signing.cosign is None else read_discharge(str(signing.cosign))
    key = own_keys.chosen(name)
    if why := why_not(request.caveat, key):
        return nothing(why)
    show_request(request, other, on_stderr=True)
    if not sure and not click.confirm(f"Approve this call, as {clean(key.name)}?", err=True):
        screen.note("Nothing was signed.")
        return NOTHING
    try:
        signed = signing.sign(request, key, other)
    except InvalidRequest as problem:
        return nothing(str(problem))
    output.write(signed.text, lambda: facts(signed), (next_step(signed),), "an approval")
    return DONE


def deny_file(file: str, *, as_json: bool) -> int:
    """Show the request in a file. There is nothing to sign: without an approval, the call stays denied."""
    request = read_request(file)
    if as_json:
        screen.as_json({"answer": "denied", "request": request.document()})
        return DONE
    show_request(request)
    screen.note("There is nothing to sign: without an approval, the call stays denied. Tell the agent, if it waits.")
    return DONE


def sign_online(
    authority: "Anyone", inquiry: "Inquiry", key: "PrincipalKey", signing: Signing
) -> tuple[Any, Discharge]:
    """Sign the approval of a request at an authority, and hand it in; return the request and the approval."""
    from capx.tokens.approving import has_expired

    request = inquiry.request
    other = None if request.discharge is None else Discharge.parse(request.discharge)
    # The first signature may be too old by now: then the approval begins anew.
    if other is not None and has_expired(other, int(time.time())):
        other = None
    signed = signing.sign(ApprovalRequest.parse(request.to_approve or ""), key, other)
    return authority.approve(request.id, signed), signed


def why_not(caveat: ApprovalCaveat, key: "PrincipalKey") -> str | None:
    """Return why this person cannot approve a call with this demand; None if they may."""
    if not key.can_approve_calls:
        return "the approval of a call needs the secret of your key, and ssh-agent keeps it: use a key file"
    if key.public in caveat.approvers:
        return None
    return f"{key.name} cannot approve this call with the key {key.public}: it needs {caveat.wanted()}"


def nothing(why: str) -> int:
    """Say why nothing was signed; return the exit code."""
    screen.note(f"capx: {why}", screen.BAD)
    return NOTHING


def next_step(discharge: Discharge) -> tuple[str, str]:
    """Say what an approval still needs, and how to use it."""
    from capx.tokens.held_approvals import missing_signatures

    if missing := missing_signatures(discharge):
        return f"{missing} more must sign it: capx requests approve --file REQUEST --cosign FILE", screen.STRONG
    return "approved. Next: capx approval add, where the agent has its token", screen.GOOD


def facts(discharge: Discharge) -> dict[str, Any]:
    """Return what an approval says, nothing shortened, as JSON values; never the approval."""
    from capx.tokens.held_approvals import missing_signatures

    demand = read_approval_caveat(discharge.cid)
    people = () if demand is None else demand.approvers

    def told(caveat: Caveat) -> str:
        if isinstance(caveat, Signed) and caveat.number < len(people):
            return f"signed by {people[caveat.number]}"
        return caveat.sentence()

    with whole():
        blocks = [[told(one) for one in block] for block in discharge.caveats]
    ends = [one.at for block in discharge.caveats for one in block if isinstance(one, Expires)]
    return {
        "id": b64u(discharge.id),
        "missing_signatures": missing_signatures(discharge),
        "until": shown_instant(min(ends)) if ends else None,
        "blocks": blocks,
    }
