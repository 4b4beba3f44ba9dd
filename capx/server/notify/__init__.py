"""Telling programs elsewhere what waits for people: the hooks of `--notify FILE`, each a URL or a command."""
