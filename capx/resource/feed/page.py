"""Writes and reads signed pages: they carry deaths to services that do not share the store.

A death is the record of a revocation or of the end of a task.

    {"by": KID, "page": TEXT, "sig": SIGNATURE}         the signature is over H("capx/1/feed-page", TEXT)
    TEXT: v · epoch position hash deaths forgotten · at · from · since · lasting · dead

`epoch` is AUTHORITY.SECONDS: it names the authority, as the key files of its readers do, within the signed text.

`from` is the position that the reader asked about, with the hash there, or null. `since` is the number of the death
after which `dead` begins; it is 0 if the page begins with the first death. The first `lasting` entries of `dead` are
older than `forgotten`, but of a kind that is never forgotten. In `dead`, a key of 16 bytes is `id:` and base64url;
other keys are as in capx.tokens.revocation_key.

Laws: a reader verifies the signature before it reads anything else in a page. A page has exactly one spelling. A page
that does not reach the last death of its head confirms nothing, because more pages follow.
"""

import re
import sys
from binascii import a2b_base64
from collections.abc import Mapping
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from capx.api.query_string import decode_query
from capx.crypto.base64url import b64u, unb64u
from capx.crypto.ed25519 import SIGNATURE, FeedSigner, is_signed
from capx.crypto.hashing import digest
from capx.errors import MalformedToken, StoreProblem
from capx.intents import epoch
from capx.store.lifecycle import DEATH
from capx.store.log import GENESIS, Place
from capx.store.protocols import Reading
from capx.store.records import Head
from capx.tokens.revocation_key import RevocationKey, is_lasting
from capx_caveats import SAFE_INTEGER

DEATHS_IN_A_PAGE: Final = 10_000
"""The most deaths in one page, without those that are older than `forgotten`."""
MAX_TEXT: Final = 2 << 20
"""The most characters of a page's text: a reader needs a bound before it has checked the signature."""
MAX_PAGES: Final = 1_000
"""The most pages in one sequence that holds all deaths."""
AHEAD: Final = 5.0
"""Seconds by which the authority's clock may be ahead of its reader's."""

T = TypeVar("T")

_LABEL = b"capx/1/feed-page"
_ID = "id:"
_KEY = re.compile(
    r"id:[A-Za-z0-9_-]{21}[AQgw]|[A-Za-z0-9_-]{1,64}|kid:[A-Za-z0-9_-]{10}[AEIMQUYcgkosw048]|issued:(?:0|[1-9][0-9]{0,15})"
)
# A reason becomes the code of a denial, so a verifier must know it. Interned: a million deaths share a few texts.
_REASONS: Final = {reason: sys.intern(reason) for reason in ("revoked", *DEATH.values())}

_Count = Annotated[int, Meta(ge=0, le=SAFE_INTEGER)]
# The last condition forbids a newline at the end, which `$` by itself accepts.
_Epoch = Annotated[str, Meta(pattern=rf"^(?:{epoch.FORM})$(?!\n)")]
_Instant = Annotated[float, Meta(ge=0, le=SAFE_INTEGER)]


class PageProblem(StoreProblem):
    """The reader cannot trust a page, or the page does not continue from where the reader is; says why."""


class PageOfAnother(PageProblem):
    """The page is of another authority than the keys of its reader."""


class FeedCursor(Struct, frozen=True, forbid_unknown_fields=True):
    """How far a reader is: how many deaths it knows, at which position, in which epoch. By default, it knows none."""

    since: _Count = 0
    position: _Count = 0
    epoch: _Epoch | None = None

    @classmethod
    def of(cls, known: Head | None) -> "FeedCursor":
        """Return the cursor of a reader who knows all deaths up to this head."""
        return cls() if known is None else cls(known.deaths, known.position, known.epoch)

    @classmethod
    def read(cls, query: Mapping[str, str]) -> "FeedCursor":
        """Read a cursor from the query of a URL; raises InvalidRequest."""
        return decode_query(query.items(), cls)

    def query(self) -> dict[str, str]:
        """Write the cursor as the query of a URL."""
        query = {"since": str(self.since), "position": str(self.position)}
        return query if self.epoch is None else {**query, "epoch": self.epoch}


class SignedPage(Struct, frozen=True):
    """The text of a page, one line of ASCII; how far its reader is `then`; and whether another page follows at once."""

    text: str
    then: FeedCursor
    has_more: bool


class Page(Struct, frozen=True):
    """The content of a page whose signature is good.

    `by` is the kid of the root key, and `at` the time by the authority's clock (Unix seconds). `asked` is the place
    that the reader asked about. `deaths` are those after the first `since`.
    """

    by: str
    at: float
    head: Head
    asked: Place | None
    since: int
    lasting: int
    deaths: dict[RevocationKey, str]

    @property
    def reached(self) -> int:
        """How many deaths a reader knows after all pages up to this one."""
        return (self.since or self.head.forgotten) + len(self.deaths) - self.lasting

    @property
    def has_more(self) -> bool:
        """Whether another page must follow, so that this one confirms nothing yet."""
        return self.reached < self.head.deaths


class _Said(Struct, frozen=True, forbid_unknown_fields=True, rename={"asked": "from"}):
    v: Literal[1]
    epoch: str
    position: _Count
    hash: str
    deaths: _Count
    forgotten: _Count
    at: _Instant
    asked: tuple[_Count, str] | None
    since: _Count
    lasting: _Count
    dead: list[tuple[str, str]]


class Envelope(Struct, frozen=True, forbid_unknown_fields=True):
    """A signed page: `page` is the signed text, `by` the kid of the root key from which the signing key is derived."""

    by: str
    page: str
    sig: str


def sign_page(
    reading: Reading, signer: FeedSigner, asked: FeedCursor, *, now: float, at_most: int = DEATHS_IN_A_PAGE
) -> SignedPage:
    """Sign the next page for a reader that is at `asked`.

    Read `now` (Unix seconds) before `reading` begins, so that the page does not claim to be newer than its content. The
    page begins with the first death if the reader knows another epoch, or missed deaths that are forgotten.
    """
    head = reading.head()
    since, place = asked.since, None
    if asked.epoch in {None, head.epoch} and 0 < asked.position <= head.position:
        place = asked.position, b64u(_hash_at(reading, head, asked.position))
    if asked.epoch not in {None, head.epoch} or head.forgotten > since:
        since = 0
    # A reader may claim more deaths than there are, after the store went back. The head shows it that there are fewer.
    since = min(since, head.deaths)
    dead, lasting = _deaths_since(reading, head, since, at_most)
    said = _Said(
        v=1,
        epoch=head.epoch,
        position=head.position,
        hash=b64u(head.hash),
        deaths=head.deaths,
        forgotten=head.forgotten,
        at=round(float(now), 3),
        asked=place,
        since=since,
        lasting=lasting,
        dead=dead,
    )
    reached = (since or head.forgotten) + len(dead) - lasting
    return SignedPage(_enveloped(said, signer), FeedCursor(reached, head.position, head.epoch), reached < head.deaths)


def read_page(text: str, keys: Mapping[str, bytes], *, now: float) -> Page:
    """Read a page that one of the keys signed (public keys, by kid); raises PageProblem, which says what is wrong.

    `now` is in Unix seconds. This does not compare the page with what its reader knew before.
    """
    # The order is a law: length, envelope, key, signature. Only then the signed text is read.
    if len(text) > MAX_TEXT:
        raise PageProblem(f"the page has more than {MAX_TEXT} characters")
    envelope = _decoded(text, Envelope)
    key = keys.get(envelope.by)
    if key is None:
        raise PageProblem(
            f"the page is signed under the key {envelope.by!a:.40}, which is not among the feed keys here or was "
            "revoked: export the live keys, with capx keys export"
        )
    if not is_signed(key, digest(_LABEL, envelope.page.encode()), _bytes(envelope.sig, SIGNATURE, "signature")):
        raise PageProblem(f"the page's signature is not that of the key {envelope.by}")
    # A time ahead would keep the page fresh for too long, and with it what a replayed page says.
    said = _decoded(envelope.page, _Said)
    if said.at > now + AHEAD:
        raise PageProblem(f"the page was written {said.at - now:.0f} s from now: set the clock here or the authority's")
    return _sensible(_page(envelope.by, said), len(said.dead))


def _enveloped(said: _Said, signer: FeedSigner) -> str:
    page = msgspec.json.encode(said)
    signature = signer.sign(digest(_LABEL, page))
    text = msgspec.json.encode(Envelope(signer.kid, page.decode(), b64u(signature))).decode()
    if len(text) > MAX_TEXT:
        raise StoreProblem(f"a page of the feed would have more than {MAX_TEXT} characters")
    return text


def _hash_at(reading: Reading, head: Head, position: int) -> bytes:
    if position == head.position:
        return head.hash
    for event in reading.events(after=position - 1, limit=1):
        if event.position == position:
            return event.hash
    raise StoreProblem(f"the store holds no event at position {position}: it is damaged")


def _deaths_since(reading: Reading, head: Head, since: int, at_most: int) -> tuple[list[tuple[str, str]], int]:
    """Return the deaths after `since`, spelled for a page, and how many of them are older than `forgotten`."""
    # Numbers have no gaps, so a missing death shows here and is not signed away.
    dead: list[tuple[str, str]] = []
    lasting, reached = 0, max(since, head.forgotten)
    up_to = min(head.deaths, reached + at_most)
    if since == head.deaths:
        return dead, lasting
    # Nobody knows how many older deaths are kept.
    limit = None if since < head.forgotten else up_to - since
    for death in reading.deaths(after=since, limit=limit):
        if death.seq <= head.forgotten:
            lasting += 1
        elif reached == up_to:
            break
        elif death.seq != reached + 1:
            raise StoreProblem(f"the store holds no death {reached + 1}: it is damaged")
        else:
            reached = death.seq
        dead.append((_spelled(death.key), death.reason))
    if reached != up_to:
        raise StoreProblem(f"the store holds no death {reached + 1}: it is damaged")
    return dead, lasting


def _spelled(key: RevocationKey) -> str:
    text = _ID + b64u(key) if isinstance(key, bytes) else key
    if not _KEY.fullmatch(text):
        raise StoreProblem(f"the store holds a death of {text!a:.80}, which is not the key of a death: it is damaged")
    return text


def _page(by: str, said: _Said) -> Page:
    head = Head(said.epoch, said.position, _bytes(said.hash, 32, "hash"), said.deaths, said.forgotten)
    place = None if said.asked is None else Place(said.asked[0], _bytes(said.asked[1], 32, "hash"))
    deaths = {_key(key): _reason(reason) for key, reason in said.dead}
    return Page(by, said.at, head, place, said.since, said.lasting, deaths)


def _sensible(page: Page, count: int) -> Page:
    """Return the page if its numbers fit together; `count` is how many deaths it lists, repeated ones too."""
    # A signature says who wrote the page, not that it is sound: the store of the authority may be damaged.
    head, place = page.head, page.asked
    beside = count - page.lasting
    sense = {
        "an epoch": epoch.is_epoch(head.epoch),
        "a hash for its position": (head.position == 0) == (head.hash == GENESIS),
        "a place that was asked about": place is None or 0 < place.position < head.position or place == head.place,
        "deaths that go on without a gap": page.since == 0 or head.forgotten <= page.since <= head.deaths,
        "each death once": count == len(page.deaths),
        "lasting deaths only at its beginning": page.lasting <= (0 if page.since else min(count, head.forgotten))
        and all(is_lasting(key) for key, _ in zip(page.deaths, range(page.lasting), strict=False)),
        "as many deaths as a page holds": beside <= DEATHS_IN_A_PAGE,
        "deaths up to its head": page.reached <= head.deaths and (beside > 0 or not page.has_more),
    }
    for what, holds in sense.items():
        if not holds:
            raise PageProblem(f"the page does not have {what}: it is not a page of this feed")
    return page


def _decoded(text: str, kind: type[T]) -> T:
    """Decode a JSON text; raises PageProblem unless it is spelled exactly as capx writes it.

    So no name is there twice, and no number or space has two spellings.
    """
    try:
        raw = text.encode()
        value = msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise PageProblem("this is not a page of a feed, or it was cut short") from None
    if msgspec.json.encode(value) != raw:
        raise PageProblem("the page is not spelled as capx writes pages: something changed it")
    return value


def _key(text: str) -> RevocationKey:
    if not _KEY.fullmatch(text):
        raise PageProblem(f"{text!a:.40} is not the key of a death")
    if text.startswith(_ID):
        return a2b_base64(text[len(_ID) :].replace("-", "+").replace("_", "/") + "==")
    return text


def _reason(text: str) -> str:
    reason = _REASONS.get(text)
    if reason is None:
        # Do not guess: a death without a known reason would be lost, or be denied with a code that nobody knows.
        raise PageProblem(f"{text!a:.40} is an unknown reason for a death: install a newer capx")
    return reason


def _bytes(text: str, size: int, what: str) -> bytes:
    try:
        raw = unb64u(text)
    except MalformedToken:
        raw = b""
    if len(raw) != size:
        raise PageProblem(f"the page's {what} is not {size} bytes in base64url")
    return raw
