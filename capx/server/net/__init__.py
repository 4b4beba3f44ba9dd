"""Sockets and connections of a served authority, and what callers whom nobody has authenticated can use up."""
