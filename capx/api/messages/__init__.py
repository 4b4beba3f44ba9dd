"""The bodies that go over HTTP, by who sends them; those of operators are in `capx.authority.remote.messages`."""
