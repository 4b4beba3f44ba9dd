"""What a person signs who answers a request: over what they were shown, who they are, yes or no, and when.

H("capx/1/verdict", digest of what was shown, approver, "yes" or "no", at)
"""

from capx.crypto.hashing import digest


def verdict_message(shown: bytes, approver: str, *, yes: bool, at: int) -> bytes:
    """Return the message that is signed: 32 bytes; `shown` is the digest of what the approver was shown."""
    return digest(b"capx/1/verdict", shown, approver.encode(), b"yes" if yes else b"no", str(at).encode())
