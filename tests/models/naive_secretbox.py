"""XSalsa20-Poly1305 (NaCl's secretbox) straight from its papers, opened only: slow, of the standard library alone."""

import hmac
from struct import pack, unpack

SIGMA = b"expand 32-byte k"
MASK = 0xFFFFFFFF


def rounds(state: list[int]) -> list[int]:
    x = state[:]

    def quarter(a: int, b: int, c: int, d: int) -> None:
        for to, one, other, by in ((b, a, d, 7), (c, b, a, 9), (d, c, b, 13), (a, d, c, 18)):
            added = (x[one] + x[other]) & MASK
            x[to] ^= (added << by | added >> (32 - by)) & MASK

    for _ in range(10):
        for at in ((0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11)):
            quarter(*at)
        for at in ((0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14)):
            quarter(*at)
    return x


def state(key: bytes, block: bytes) -> list[int]:
    c, k, n = unpack("<4I", SIGMA), unpack("<8I", key), unpack("<4I", block)
    return [c[0], *k[:4], c[1], *n, c[2], *k[4:], c[3]]


def salsa20(key: bytes, block: bytes) -> bytes:
    first = state(key, block)
    return pack("<16I", *((one + other) & MASK for one, other in zip(first, rounds(first), strict=True)))


def hsalsa20(key: bytes, nonce: bytes) -> bytes:
    x = rounds(state(key, nonce))
    return pack("<8I", *(x[at] for at in (0, 5, 10, 15, 6, 7, 8, 9)))


def poly1305(key: bytes, message: bytes) -> bytes:
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for at in range(0, len(message), 16):
        total = (total + int.from_bytes(message[at : at + 16] + b"\1", "little")) * r % (2**130 - 5)
    return ((total + int.from_bytes(key[16:], "little")) % 2**128).to_bytes(16, "little")


def opened(sealed: bytes, key: bytes) -> bytes | None:
    """The content of nonce, tag and ciphertext; None if the key does not open it."""
    nonce, tag, cipher = sealed[:24], sealed[24:40], sealed[40:]
    own = hsalsa20(key, nonce[:16])
    blocks = range((32 + len(cipher) + 63) // 64)
    stream = b"".join(salsa20(own, nonce[16:] + number.to_bytes(8, "little")) for number in blocks)
    if not hmac.compare_digest(poly1305(stream[:32], cipher), tag):
        return None
    return bytes(one ^ other for one, other in zip(cipher, stream[32:], strict=False))
