"""Tokens that are used and spent by commands; nothing is faked."""

from capx.authority.authority import Authority
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx_caveats import Call


def use(authority: Authority, bundle: Bundle, action: str) -> bool:
    received = ToolCall(action)
    token = bundle.present("crm", received).text
    call = Call(action, tenant="Acme")
    return authority.verifier("crm").decide(token, received, call).allowed


def flat(text: str) -> str:
    """The words of a text, a blank between each two."""
    return " ".join(text.split())
