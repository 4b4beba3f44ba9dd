"""The bodies of HTTP requests and answers, by sender. Those of operators are in `capx.authority.remote.messages`."""
