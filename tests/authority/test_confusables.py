"""The table of look-alikes has all confusables of Unicode that look like a character of ASCII."""

from unicodedata import normalize

from capx.authority.requests.lookalikes import is_telling, remarks
from tests.reference import confusables


def test_the_table_is_what_its_generator_writes() -> None:
    """To write it anew: python -m tests.reference.confusables."""
    assert confusables.FILE.read_text("utf-8") == confusables.text()


def test_each_confusable_of_unicode_is_told() -> None:
    told = 0
    for character, likes in confusables.UNICODE.items():
        ascii_ = {one["c"] for one in likes if len(one["c"]) == 1 and one["c"].isascii() and is_telling(one["c"])}
        if len(character) == 1 and not character.isascii() and ascii_:
            (remark, *_) = remarks(f"a{character}")
            plain = normalize("NFKC", character)
            said = ["is a mark on a letter", *(f"looks like {one}" for one in (*ascii_, plain))]
            assert any(f"(U+{ord(character):04X}) {one}" in remark for one in said), character
            told += 1
    assert told > 500
