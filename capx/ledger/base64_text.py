"""Base64 with padding (RFC 4648, section 4), as notes and checkpoints spell bytes.

Law: each sequence of bytes has exactly one text. Any other text is refused.
"""

from binascii import Error, a2b_base64, b2a_base64

from capx.errors import InvalidRequest


def b64(data: bytes) -> str:
    """Return the bytes as base64."""
    return b2a_base64(data, newline=False).decode()


def unb64(text: str) -> bytes:
    """Return the bytes of canonical base64; InvalidRequest for any other text."""
    try:
        data = a2b_base64(text.encode("ascii"), strict_mode=True)
    except (Error, UnicodeEncodeError):
        data = None
    # Unused bits at the end, which the decoder ignores, would be a second spelling.
    if data is None or b64(data) != text:
        raise InvalidRequest("this is not base64 with padding")
    return data
