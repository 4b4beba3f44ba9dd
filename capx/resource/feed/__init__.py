"""Reads the signed feed of revocations: page by page, or as a stream."""
