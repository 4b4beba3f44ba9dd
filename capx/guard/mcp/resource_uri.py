"""The one spelling in which the URI of a resource is served.

Law: servers decode a URI, leave out `.` and `..`, or write it anew, before they look for the resource. A caveat is
about the text that was sent. So a URI is served only in the spelling that no server changes: in ASCII, without a
fragment, with a scheme in lower case, and with codes (`%20`) only of what needs one and divides nothing. Caveats have
to name it in that spelling.
"""

import re
from typing import Final
from urllib.parse import unquote

_NAME: Final = "[A-Za-z0-9._~!$&'()*+,=%-]+"
_REST: Final = r"[A-Za-z0-9._~!$&'()*+,=%:@/-]*(?:\?[A-Za-z0-9._~!$&'()*+,=%:@/?-]+)?"
_DNS: Final = r"(?:[a-z0-9-]+\.)*[a-z][a-z0-9-]*"
# What WHATWG calls a special scheme: its host is rewritten, and a path is added.
_WEB: Final = re.compile(rf"(https?|wss?|ftp)://{_DNS}(?::([1-9][0-9]{{0,4}}))?/{_REST}")
_FILE: Final = re.compile(rf"file:///(?!/){_REST}")
_PLACE: Final = rf"//(?:{_NAME}@)?{_NAME}(?::[1-9][0-9]{{0,4}})?(?=[/?]|$)"
_OTHER: Final = re.compile(rf"(?!(?:https?|wss?|ftp|file):)[a-z][a-z0-9+.-]*:(?:{_PLACE}|(?!/)){_REST}")
_PORTS: Final = {"http": "80", "https": "443", "ws": "80", "wss": "443", "ftp": "21"}
_UNCODED: Final = frozenset("-._~/?#[]@:!$&'()*+,;=%\\\x7f")
"""What needs no code, beside letters and digits, and what divides."""


def uri_problem(uri: str) -> str | None:
    """Return why a URI is not in the one spelling; None if it is."""
    web = _WEB.fullmatch(uri)
    if (web and web[2] == _PORTS[web[1]]) or not (web or _FILE.fullmatch(uri) or _OTHER.fullmatch(uri)):
        return "it is not as every server would write it: a scheme in lower case, ASCII, no fragment, no `;`"
    codes = re.findall("%([0-9A-F]{2})?", uri)
    try:
        decoded = unquote(uri, errors="strict")
    except UnicodeDecodeError:
        return "its codes are no UTF-8"
    if not all(map(_is_needed, codes)):
        return "a `%` in it begins no code of two digits or upper-case letters, or that of a character that needs none"
    segments = re.split("[/?]", decoded.partition(":")[2].removeprefix("//"))
    if any(segment in {".", ".."} for segment in segments) or "" in segments[1 if uri.startswith("file:") else 0 : -1]:
        return "it has a segment that is empty, `.` or `..`"
    return None


def _is_needed(code: str) -> bool:
    """Whether a character has to be written as this code, and divides nothing."""
    byte = chr(int(code or "0", 16))
    return byte >= " " and not (byte.isascii() and (byte.isalnum() or byte in _UNCODED))
