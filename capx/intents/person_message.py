"""What a person signs to prove one request at an authority over the network.

H("capx/1/person-request", principal, origin, epoch, method, target, at, nonce, SHA-256(body))

Laws: it names the origin that the person dialled, and the epoch of the store. So a hostile authority cannot pass a
request on to another one, and a request that was signed before a restoration is good for nothing.
"""

from msgspec import Struct

from capx.crypto.hashing import digest


class PersonRequest(Struct, frozen=True, kw_only=True):
    """One request: `target` is path and query as sent, `at` in Unix seconds, `nonce` 16 random bytes.

    `origin` is that of the authority as the person dials it: `https://host[:port]`. `body_digest` is the SHA-256 of the
    body.
    """

    principal: str
    origin: str
    epoch: str
    method: str
    target: str
    body_digest: bytes
    at: int
    nonce: bytes

    def message(self) -> bytes:
        """Return the message that is signed: 32 bytes."""
        texts = (self.principal, self.origin, self.epoch, self.method, self.target)
        at = self.at.to_bytes(8)
        return digest(b"capx/1/person-request", *map(str.encode, texts), at, self.nonce, self.body_digest)
