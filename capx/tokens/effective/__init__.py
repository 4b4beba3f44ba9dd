"""What a chain of caveats still allows: its intersection, the difference to another, and what a call would meet."""
