"""The key with which an authority signs what it tells of deaths (Ed25519, RFC 8032).

    seed = HMAC(root key, "capx/1/feed" ‖ 01)

Law: it follows from a root key, so it needs no file, rotates with it and is named by its kid; no audience's key can be
it.
"""

from capx.signing import Signer


class FeedSigner(Signer):
    """Signs for the authority; `public` is what verifies it, `kid` the root key that it follows from."""

    __slots__ = ("kid",)

    def __init__(self, kid: str, seed: bytes) -> None:
        self.kid = kid
        super().__init__(seed)

    def __repr__(self) -> str:
        return f"FeedSigner(kid={self.kid!r})"
