"""The operations for each kind of caller of a served authority: operators, agents, resources and monitoring."""
