"""What one follower makes of the pages that it is sent.

Laws: no page takes a death back, and none is taken in that does not go on exactly where its reader stands: a store that
went back, tells another history, or is another one, is refused; a later epoch of the same one is told anew, from the
first death on. News is what a whole sequence of pages said. What a key signs is not believed once its death is known.
"""

from collections.abc import Mapping

from msgspec.structs import replace

from capx.errors import KeyProblem
from capx.resource.feed.page import FeedCursor, Page, PageProblem, read_page
from capx.store.continuity import demand_whole, succeeding
from capx.store.records import Head, News
from capx.tokens.revocation_key import KID, RevocationKey, is_lasting


class PageReader:
    """Takes pages one after the other and gives the news when they are complete.

    `keys` are the feed's public keys by kid, as `AudienceKeys.feed` has them.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        if not keys:
            raise KeyProblem("there is no feed key to check pages with: capx keys export writes them with the others")
        self._keys = dict(keys)
        self.begin(None)

    def begin(self, known: Head | None) -> None:
        """Go on from what is known; what an unfinished sequence of pages said is forgotten."""
        self._known = known
        self._first: Page | None = None
        self._last: Page | None = None
        self._deaths: dict[RevocationKey, str] = {}

    @property
    def cursor(self) -> FeedCursor:
        """What to ask for next."""
        return FeedCursor.of(self._reached)

    @property
    def is_amid(self) -> bool:
        """Whether a sequence of pages has begun and more of it is to follow."""
        return self._last is not None

    def take(self, text: str, *, now: float) -> News | None:
        """What was not known, or None while more pages are to follow; `now` is in Unix seconds.

        PageProblem or StoreProblem says why the page is refused; `begin` again then.
        """
        page = read_page(text, self._keys, now=now)
        if self._is_of_beginning(page):
            self.begin(None)
        first = self._first = self._first or page
        self._last = page
        # A sequence tells of one set: what was forgotten while it was told would be counted and not be there.
        if page.head.forgotten > (first.since or first.head.forgotten):
            raise PageProblem("deaths were forgotten while they were being told: they are to be told anew")
        self._deaths.update(page.deaths)
        return None if page.has_more else self._complete(first, page)

    @property
    def _reached(self) -> Head | None:
        return self._known if self._last is None else replace(self._last.head, deaths=self._last.reached)

    def _is_of_beginning(self, page: Page) -> bool:
        """Whether the page begins to tell all anew, because it has to; PageProblem if it does not belong here."""
        before = self._reached
        goes_on = succeeding(before, page.head, None if before is None else _hash_at(before, page))
        known = 0 if goes_on is None else goes_on.deaths
        if page.since != known:
            raise PageProblem(
                f"the page tells the deaths after number {page.since}, and those after number {known} are due"
            )
        return goes_on is None

    def _complete(self, first: Page, last: Page) -> News:
        anew = first.since == 0
        news = demand_whole(None if anew else self._known, News(last.head, self._deaths, anew, first.lasting, last.at))
        self.begin(last.head)
        for key in filter(is_lasting, news.deaths):
            self._keys.pop(str(key).removeprefix(KID), None)
        return news


def _hash_at(before: Head, page: Page) -> bytes | None:
    """The hash that the page gives for the position at which its reader stands, where it has to give one."""
    if page.head.epoch != before.epoch or not 0 < before.position <= page.head.position:
        return None
    if page.asked is None or page.asked.position != before.position:
        raise PageProblem(f"the page does not say what stands at position {before.position}, which was asked about")
    return page.asked.hash
