"""The digest of the arguments of a call, by which the log shows that two decisions were about the same call.

Laws:

- It is a MAC under the key of the audience. So nobody who only reads the log can find an argument by trying values.
- It also covers the node and the action. So it does not show that two agents used the same arguments.
"""

from collections.abc import Mapping
from typing import Final

from capx.crypto.base64url import b64u
from capx.crypto.canonical_json import sorted_json
from capx.crypto.hashing import mac
from capx.crypto.keys import AudienceKey
from capx_caveats import JSON

# The input of the MAC begins with it, and no identifier of a token does: so nobody can make a token from a digest.
_LABEL: Final = b"capx/1/arguments"
_BYTES: Final = 12


def args_digest(key: AudienceKey, node: bytes, action: str, args: Mapping[str, JSON]) -> str | None:
    """Return the digest (16 characters of base64url); None if the arguments cannot be written as JSON.

    The order of names does not count, but 1 and 1.0 are different.
    """
    try:
        found = sorted_json(dict(args))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
    # A node has 16 bytes, and no action has a NUL in it, so each part has one place.
    return b64u(mac(key.mac_key, b"%b%b%b\0%b" % (_LABEL, node, action.encode(), found))[:_BYTES])
