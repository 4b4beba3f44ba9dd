"""base64url without padding (RFC 4648, section 5).

Law: each sequence of bytes has exactly one text, the canonical one. Any other text is refused.
"""

from binascii import Error, a2b_base64, b2a_base64

from capx.errors import MalformedToken

_TO_URL = bytes.maketrans(b"+/", b"-_")


def b64u(data: bytes) -> str:
    """Return the bytes as base64url without padding."""
    return b2a_base64(data, newline=False).rstrip(b"=").translate(_TO_URL).decode()


def unb64u(text: str) -> bytes:
    """Return the bytes of canonical base64url without padding; MalformedToken for any other text."""
    data = whole_bytes(text)
    demand_canonical(data, text)
    return data


def canonical_bytes(text: str) -> bytes:
    """Return the bytes of a text that is known to be canonical; for any other text, the answer is nonsense."""
    return a2b_base64(text.replace("-", "+").replace("_", "/") + "==")


def is_bytes(text: object, size: int) -> bool:
    """Whether it is text, and the canonical base64url of exactly `size` bytes."""
    try:
        return isinstance(text, str) and len(unb64u(text)) == size
    except MalformedToken:
        return False


def whole_bytes(text: str) -> bytes:
    """Return the whole bytes in a text of the base64url alphabet; `demand_canonical` checks the bits after them."""
    # The decoder below reads plain base64, so these three characters would pass it.
    if "+" in text or "/" in text or "=" in text:
        raise _no_base64url()
    try:
        raw = text.encode("ascii").replace(b"-", b"+").replace(b"_", b"/")
        dangling = len(raw) % 4 == 1
        if dangling:
            raw += b"A"  # one character makes no byte, and must be of the alphabet all the same
        data = a2b_base64(raw + b"=" * (-len(raw) % 4), strict_mode=True)
    except (Error, UnicodeEncodeError):
        raise _no_base64url() from None
    return data[:-1] if dangling else data


def _no_base64url() -> MalformedToken:
    return MalformedToken("this is not base64url without padding")


def demand_canonical(data: bytes, text: str) -> None:
    """Raise MalformedToken unless the text is the canonical spelling of the bytes that `whole_bytes` found in it."""
    # Four characters spell three bytes in one way only, so a difference can only be after the last whole group.
    groups = len(data) // 3
    if b64u(data[groups * 3 :]) != text[groups * 4 :]:
        raise MalformedToken("the base64url text is not canonical: unused bits at its end are set")
