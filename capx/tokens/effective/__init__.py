"""The authority that a chain of caveats still gives: as an intersection, a difference, a prediction."""
