"""What each kind of caller can ask of a served authority: operators, agents, resources, and whoever watches it."""
