"""Sockets and connections of a served authority, and limits for callers before they are authenticated."""
