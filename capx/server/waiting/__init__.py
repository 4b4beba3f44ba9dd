"""Callers that wait at a served authority: agents for the answer of a person, followers for the next event."""
