"""The parts that a verifier of a resource needs: revocations, burnt presentations, and the record of its decisions.

    import tempfile
    from pathlib import Path

    import capx
    from capx.resource import connect

    with tempfile.TemporaryDirectory() as folder:
        with capx.Authority.create_home(Path(folder) / "home") as authority:
            keys = authority.export_keys("crm")
        connection = connect(keys, store=f"{folder}/home/capx.db")
        verifier = connection.verifier()
        connection.close()

Modules:

    connection           a verifier's parts, from a store, the feed of an authority, or a saved page of it
    revocations          the revocations in a store, and how old that knowledge is
    burn_queue           burns the presentations of concurrent requests together
    replay               remembers which presentations were used
    recorder             writes decisions to the log
    decision_forms       the forms in which a decision is written
    spool                keeps in a file the decisions that the authority has not answered for
    spool_files          the files of a spool, their folder and their locks
    spool_orphans        reports the decisions that a process which is gone has left
    report_client        reports decisions, and how far a follower is, over HTTP
    feed/                the signed feed of revocations: page, client, follower, snapshot

`capx.FeedSource` needs httpx, so this package does not export it.
"""

from capx.resource.connection import Connection, connect, connect_from_env
from capx.resource.feed.follower import Follower
from capx.resource.feed.snapshot import Snapshot
from capx.resource.recorder import StoreRecorder
from capx.resource.replay import Replay
from capx.resource.revocations import StoreLiveness

__all__ = [
    "Connection",
    "Follower",
    "Replay",
    "Snapshot",
    "StoreLiveness",
    "StoreRecorder",
    "connect",
    "connect_from_env",
]
