"""The authority over HTTP, for operators: operations, client, messages, and the socket that proves who serves."""
