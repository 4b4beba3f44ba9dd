"""Ed25519 straight from RFC 8032, as docs/spec wants it: slow, of the standard library alone.

A key must be canonical and of the subgroup of prime order. A signature is checked by the equation without the cofactor.
Its S must be below the order of the group, and its R canonical and not of small order.
"""

from hashlib import sha512

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P

Point = tuple[int, int, int, int]
"""Extended coordinates: x = X/Z, y = Y/Z, xy = T/Z."""
NEUTRAL: Point = (0, 1, 1, 0)


def plus(one: Point, other: Point) -> Point:
    a, b = (one[1] - one[0]) * (other[1] - other[0]), (one[1] + one[0]) * (other[1] + other[0])
    c, d = 2 * one[3] * other[3] * D, 2 * one[2] * other[2]
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(number: int, point: Point) -> Point:
    found = NEUTRAL
    while number:
        found = plus(found, point) if number & 1 else found
        point, number = plus(point, point), number >> 1
    return found


def same(one: Point, other: Point) -> bool:
    return (one[0] * other[2] - other[0] * one[2]) % P == (one[1] * other[2] - other[1] * one[2]) % P == 0


def read(raw: bytes) -> Point | None:
    """The point of these bytes; None if they are not canonical, or no point of the curve."""
    sign, y = divmod(int.from_bytes(raw, "little"), 2**255)
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if x * x % P == square else x * pow(2, (P - 1) // 4, P) % P
    if y >= P or x * x % P != square or (x == 0 and sign):
        return None
    x = x if x & 1 == sign else P - x
    return x, y, 1, x * y % P


BASE = read((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


def is_key(public: bytes) -> bool:
    point = read(public)
    return point is not None and not same(point, NEUTRAL) and same(times(L, point), NEUTRAL)


def is_signed(public: bytes, message: bytes, signature: bytes) -> bool:
    key, nonce, s = read(public), read(signature[:32]), int.from_bytes(signature[32:], "little")
    if key is None or nonce is None or BASE is None or s >= L or same(times(8, nonce), NEUTRAL):
        return False
    hashed = int.from_bytes(sha512(signature[:32] + public + message).digest(), "little") % L
    return same(times(s, BASE), plus(nonce, times(hashed, key)))
