"""Who waits at a served authority: agents for a person's answer, followers for the next event."""
