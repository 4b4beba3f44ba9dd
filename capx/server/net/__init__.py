"""Sockets and connections of a served authority, and limits on what callers send before they are authenticated."""
