"""What an authority does by itself while it is served: end tasks in time, load root keys that changed."""

import signal

from capx.agent.authority_client import AuthorityClient
from capx.authority.remote.client import RemoteAuthority
from capx.resource.feed.client import FeedSource
from capx.resource.feed.follower import Follower
from tests.labs.commands import plain_environment, run_command
from tests.labs.waiting import until
from tests.server.conftest import Served


def test_a_task_ends_by_the_clock_without_being_asked(served: Served) -> None:
    follower = Follower(FeedSource(served.url, served.keys("crm").feed))
    try:
        with RemoteAuthority(served.place) as remote:
            task = remote.open(allow=["crm.read"], expires="1s")
            until(lambda: follower.age() < 1.5 and follower.deaths == {task.id: "task_expired"})
            assert remote.task(task.id).state == "expired"
            assert next(remote.newest_first()).kind == "task_expired"
    finally:
        follower.close()


def test_root_keys_that_change_are_taken_anew(served: Served) -> None:
    env = {**plain_environment(), "CAPX_HOME": str(served.home), "HOME": str(served.home.parent)}

    def keys(*args: str) -> str:
        done = run_command("keys", *args, env=env)
        assert done.returncode == 0, done
        return done.stdout.decode().strip()

    with RemoteAuthority(served.place) as remote:
        (old,) = remote.kids()
        before = remote.open(allow=["crm.read"])
        new = keys("add")
        keys("activate", new)
        until(lambda: list(remote.kids()) == [new, old])
        after = remote.open(allow=["crm.read"])
        assert {capability.kid for capability in after.bundle} == {new}
        # What was minted under either goes on, until the old one is retired.
        for opened in (before, after):
            with AuthorityClient(served.url, opened.bundle) as client:
                assert client.status().state == "active"
        with served.everybody() as plain:
            assert plain.get("/feed").json()["by"] == new
        keys("retire", old, "--force")
        until(lambda: list(remote.kids()) == [new])
        remote.complete(after.id)
    served.signal(signal.SIGTERM)
    code, err = served.ended()
    assert code == 0
    assert "Traceback" not in err
