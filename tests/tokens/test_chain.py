import hmac
from hashlib import sha256

from capx.tokens import chain


def hashed(*parts: bytes) -> bytes:
    return sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).digest()


def test_each_digest_goes_on_from_the_last_under_its_own_label() -> None:
    token = hashed(b"capx/1/token", b"identifier")
    block = hashed(b"capx/1/block", token, b"block")
    third = hashed(b"capx/1/third", block, b"vid", b"cid")
    assert chain.digests(b"identifier", [b"block", chain.ThirdParty(b"vid", b"cid")]) == (token, block, third)


def test_each_node_goes_on_from_the_one_above_it() -> None:
    root = hashed(b"capx/1/root", b"R1")[:16]
    first = hashed(b"capx/1/node", root, b"AgICAgICAgI")[:16]
    second = hashed(b"capx/1/node", first, b"AwMDAwMDAwM")[:16]
    assert chain.nodes("R1", ["AgICAgICAgI", "AwMDAwMDAwM"]) == (root, first, second)


def test_a_third_party_caveat_is_chained_as_libmacaroons_does() -> None:
    tail, vid, cid = b"t" * 32, b"vid", b"cid"
    both = hmac.digest(tail, vid, "sha256") + hmac.digest(tail, cid, "sha256")
    assert chain.extend(tail, chain.ThirdParty(vid, cid)) == hmac.digest(tail, both, "sha256")
