"""The boxes of a demand: what opens them, and that nothing else does."""

import pytest
from nacl.public import SealedBox
from nacl.secret import SecretBox
from nacl.signing import SigningKey

from capx.crypto import boxes
from capx.crypto.ed25519 import Signer

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
CONTENT, NONCE = bytes(range(50, 82)), bytes(range(24))
LEA = Signer(bytes(range(2, 34)))


def test_a_vid_is_that_of_libsodium() -> None:
    vid = boxes.lock(CONTENT, NONCE, KEY)
    assert len(vid) == boxes.VID == 72
    assert vid == bytes(SecretBox(KEY).encrypt(CONTENT, NONCE))
    assert SecretBox(KEY).decrypt(vid) == boxes.unlock(vid, KEY) == CONTENT


@pytest.mark.parametrize("at", [0, 23, 24, 39, 40, 71])
def test_a_changed_vid_opens_for_nobody(at: int) -> None:
    vid = bytearray(boxes.lock(CONTENT, NONCE, KEY))
    vid[at] ^= 1
    assert boxes.unlock(bytes(vid), KEY) is None


def test_a_vid_opens_under_its_key_only() -> None:
    assert boxes.unlock(boxes.lock(CONTENT, NONCE, KEY), OTHER) is None


@pytest.mark.parametrize("vid", [b"", bytes(71), bytes(73), boxes.lock(CONTENT[:-1], NONCE, KEY)])
def test_a_vid_of_another_length_is_none(vid: bytes) -> None:
    assert boxes.unlock(vid, KEY) is None


def test_a_box_is_that_of_libsodium() -> None:
    box = boxes.seal_box(CONTENT, LEA.public)
    assert len(box) == boxes.BOX == 80
    secret = SigningKey(LEA.seed).to_curve25519_private_key()
    assert SealedBox(secret).decrypt(box) == CONTENT
    assert boxes.open_box(SealedBox(secret.public_key).encrypt(CONTENT), LEA.seed) == CONTENT


def test_two_boxes_of_one_key_differ() -> None:
    assert boxes.seal_box(CONTENT, LEA.public) != boxes.seal_box(CONTENT, LEA.public)


def test_a_box_opens_for_its_owner_only() -> None:
    box = boxes.seal_box(CONTENT, LEA.public)
    assert boxes.open_box(box, LEA.seed) == CONTENT
    assert boxes.open_box(box, OTHER) is None


@pytest.mark.parametrize("at", [0, 31, 32, 79])
def test_a_changed_box_opens_for_nobody(at: int) -> None:
    box = bytearray(boxes.seal_box(CONTENT, LEA.public))
    box[at] ^= 1
    assert boxes.open_box(bytes(box), LEA.seed) is None


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_box_of_another_length_is_none(size: int) -> None:
    assert boxes.open_box(boxes.seal_box(bytes(size), LEA.public), LEA.seed) is None
    assert boxes.open_box(bytes(size), LEA.seed) is None
