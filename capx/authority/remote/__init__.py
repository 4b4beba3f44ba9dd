"""The authority over HTTP, for operators: its client, its messages, and the socket that proves who serves."""
