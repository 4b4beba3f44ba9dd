"""What the verifier of a resource stands on: revocations, burnt presentations, and the record of its decisions.

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
    replay               which presentations were used
    recorder             decisions, on their way into the log
    report_client        decisions, and what a follower knows, reported over HTTP
    feed/                the signed feed of revocations: page, client, follower, snapshot

`capx.FeedSource` needs httpx, so it is no part of this face.
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
