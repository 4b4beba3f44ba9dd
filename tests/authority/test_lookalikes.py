"""Which letters of a text a person is told to look at closely."""

import pytest

from capx.authority.requests.lookalikes import remarks


@pytest.mark.parametrize(
    ("text", "like"),
    [
        ('to "p\u0430y@acme.example"', '"p\u0430y@acme.example": \u0430 (U+0430) looks like a'),
        ("\u0410\u0441\u043c\u0435", '"\u0410\u0441\u043c\u0435": \u0410 (U+0410) looks like A, \u0441 (U+0441)'),
        ("\uff41cme", "\uff41 (U+FF41) looks like a"),
        ("\U0001d41acme", "\U0001d41a (U+1D41A) looks like a"),
        ("\u0251cme", "\u0251 (U+0251) looks like a"),
        ("\u039fmega", "\u039f (U+039F) looks like O"),
        ("evil\u2024example", "\u2024 (U+2024) looks like ."),
        ("acme.example\u2215path", "\u2215 (U+2215) looks like /"),
        ("jos\uff20x.com", "\uff20 (U+FF20) looks like @"),
        ("x\u3002com", "\u3002 (U+3002) looks like ."),
        ("1\u03360\u03360", "\u0336 (U+0336) is a mark on a letter"),
        ("jose\u0301", "\u0301 (U+0301) is a mark on a letter"),
        ("1\u2070\u2460", "\u2070 (U+2070) looks like 0, \u2460 (U+2460) looks like 1"),
        ("\ufb01nance", "\ufb01 (U+FB01) looks like fi"),
        ("refund\u02ba", "\u02ba (U+02BA) looks like a quote"),
        ("\u0430\u0436\u0441\u0435", "\u0430 (U+0430) looks like a, \u0441 (U+0441) looks like c, \u0435 (U+0435)"),
        ("\u201cquoted\u201d", "\u201c (U+201C) looks like a quote, \u201d (U+201D) looks like a quote"),
    ],
)
def test_a_look_alike_is_told(text: str, like: str) -> None:
    (remark,) = remarks(text)
    assert remark.startswith("look closely at ")
    assert like in remark


@pytest.mark.parametrize(
    "text",
    [
        "refund 400 to ben@acme.example, l1ke t0 1O0l",
        "caf\u00e9 stra\u00dfe \u0142\u00f3d\u017a s\u00f8ren na\u00efve",
        "\u041f\u043e\u0436\u0430\u043b\u0443\u0439\u0441\u0442\u0430 \u043e\u0441\u0435\u043d\u044c",
        "\u65e5\u672c \u682a\u5f0f\u4f1a\u793e",
        "\u0430\u0436\u0441",
        "it\u2019s \u2026 40 \u20ac \u00bd",
        "\u0928\u092e\u0938\u094d\u0924\u0947 \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
    ],
    ids=["ASCII", "accents", "Cyrillic", "two in three", "Han", "signs", "marks of other scripts"],
)
def test_a_text_that_is_plainly_what_it_is_is_not_remarked_upon(text: str) -> None:
    assert list(remarks(text)) == []


def test_a_word_is_remarked_upon_once() -> None:
    assert len(list(remarks("p\u0430y p\u0430y \u0440ay"))) == 2


@pytest.mark.parametrize("word", ["\u05e9\u05dc\u05d5\u05dd", "\u0633\u0644\u0627\u0645", "acme\u05e9", "\u0661\u0662"])
def test_what_is_written_from_right_to_left_is_told(word: str) -> None:
    assert f'look closely at "{word}": it is written from right to left' in "\n".join(remarks(f"to {word}, 400"))
