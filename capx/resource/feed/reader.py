"""Turns the pages that one follower gets into news.

Laws:

- No page takes a death back. The reader refuses a page that does not continue exactly from what it knows: the store
  went back, has another history, or is another store. A later epoch of the same store starts anew, from the first
  death.
- News is the content of a complete sequence of pages.
- Once the reader knows that a key was revoked, it trusts no page that this key signed.
- A page of another authority is refused, and changes nothing: somebody may use the same root keys with another store,
  which does not know what was revoked here.
"""

from collections.abc import Mapping

from msgspec.structs import replace

from capx.errors import KeyProblem
from capx.intents.epoch import authority_of
from capx.resource.feed.page import FeedCursor, Page, PageOfAnother, PageProblem, read_page
from capx.store.continuity import demand_whole, succeeding
from capx.store.records import Head, News
from capx.tokens.revocation_key import KID, RevocationKey, is_lasting


class PageReader:
    """Takes pages one after the other, and gives the news when the sequence is complete.

    `keys` are the feed's public keys by kid, as `AudienceKeys.feed` has them. `authority` is the id that the same key
    file names; with None, the first page decides.
    """

    def __init__(self, keys: Mapping[str, bytes], authority: str | None = None) -> None:
        if not keys:
            raise KeyProblem("there is no feed key to check pages with: export the keys again, with capx keys export")
        self._keys = dict(keys)
        self._authority = authority
        self.begin(None)

    def begin(self, known: Head | None) -> None:
        """Continue from what is known, and forget an unfinished sequence of pages."""
        self._known = known
        self._first: Page | None = None
        self._last: Page | None = None
        self._deaths: dict[RevocationKey, str] = {}

    @property
    def cursor(self) -> FeedCursor:
        """The cursor for the next page."""
        return FeedCursor.of(self._reached)

    @property
    def is_amid(self) -> bool:
        """Whether a sequence of pages has begun and is not complete."""
        return self._last is not None

    def take(self, text: str, *, now: float) -> News | None:
        """Take a page, and return the news, or None while more pages must follow; `now` is in Unix seconds.

        Raises PageProblem or StoreProblem if it refuses the page; then call `begin` again.
        """
        page = read_page(text, self._keys, now=now)
        found = authority_of(page.head.epoch)
        if self._authority not in {None, found}:
            raise PageOfAnother(
                f"the page is of authority {found}, and the keys here are those of authority {self._authority}: follow "
                "the feed of the authority that exported the keys"
            )
        if self._starts_anew(page):
            self.begin(None)
        first = self._first = self._first or page
        self._last = page
        # A sequence lists one set. Deaths that were forgotten in between would be counted, and be missing.
        if page.head.forgotten > (first.since or first.head.forgotten):
            raise PageProblem("the store forgot deaths between two pages: the sequence must start again")
        self._deaths.update(page.deaths)
        return None if page.has_more else self._complete(first, page)

    @property
    def _reached(self) -> Head | None:
        return self._known if self._last is None else replace(self._last.head, deaths=self._last.reached)

    def _starts_anew(self, page: Page) -> bool:
        """Whether the page must begin with the first death, and does; PageProblem if it does not follow here."""
        before = self._reached
        goes_on = succeeding(before, page.head, None if before is None else _hash_at(before, page))
        known = 0 if goes_on is None else goes_on.deaths
        if page.since != known:
            raise PageProblem(f"the page has the deaths after {page.since}, but those after {known} must come next")
        return goes_on is None

    def _complete(self, first: Page, last: Page) -> News:
        anew = first.since == 0
        news = demand_whole(None if anew else self._known, News(last.head, self._deaths, anew, first.lasting, last.at))
        self.begin(last.head)
        # Drop the public key of each root key that died: its holder could sign pages that hide its own revocation.
        for key in filter(is_lasting, news.deaths):
            self._keys.pop(str(key).removeprefix(KID), None)
        return news


def _hash_at(before: Head, page: Page) -> bytes | None:
    """Return the hash that the page gives for the reader's position; None if it need not give one.

    With it the reader sees that the page is of the same history, and not only longer.
    """
    if page.head.epoch != before.epoch or not 0 < before.position <= page.head.position:
        return None
    if page.asked is None or page.asked.position != before.position:
        raise PageProblem(f"the page does not give the hash at position {before.position}, which was asked for")
    return page.asked.hash
