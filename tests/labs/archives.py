"""A log with some old tasks and many decisions, and a young task: what there is to archive."""

from pathlib import Path

import msgspec

from capx.authority.authority import Authority
from capx.crypto.base64url import b64u
from capx.crypto.keys import KeyRing, RootKey
from capx.store.protocols import Store
from tests.labs.lab import Clock

DAY = 86_400


class OldLog:
    """An authority whose log has `tasks` ended tasks of `each` decisions, then one that is alive."""

    def __init__(self, store: Store, folder: Path, *, tasks: int = 3, each: int = 400) -> None:
        self.clock = Clock()
        self.store = store
        self.folder = folder / "archive"
        self.folder.mkdir()
        self.authority = Authority(store, KeyRing(RootKey.generate()), clock=self.clock)
        self.tasks: list[str] = []
        self.ids: list[str] = []
        for _ in range(tasks):
            self.tasks.append(self.worked(each))
            self.authority.complete(self.tasks[-1])
            self.clock.now += DAY
        self.clock.now += 40 * DAY
        self.young = self.worked(150)
        with store.write() as transaction:
            transaction.index_blocks(10_000)

    def worked(self, count: int) -> str:
        """A task with so many decisions."""
        task = self.authority.open(allow=["crm.read"], tenant="Acme")
        first = len(self.ids)
        self.ids += [f"d.{b64u((first + nth).to_bytes(16))}" for nth in range(count)]
        bodies = [
            msgspec.json.encode(
                {
                    "id": id_,
                    "at": int(self.clock.now),
                    "outcome": "denied" if nth % 5 == 0 else "allowed",
                    "audience": "crm",
                    "action": "crm.read",
                    "task": task.id,
                    "tenant": "Acme",
                    "root": task.root,
                    "shown_args": {"ticket": f"T-{first + nth}"},
                }
            )
            for nth, id_ in enumerate(self.ids[first:])
        ]
        with self.store.write() as transaction:
            transaction.append_all("decision", bodies, at=int(self.clock.now))
        return task.id

    def here(self) -> set[str]:
        """The ids of the decisions whose bodies are in the store."""
        with self.store.read() as reading:
            return {event.facts()["id"] for event in reading.events(kind="decision") if not event.is_archived}
