"""The execution graph: who delegated to whom, what each node did, and what a revocation would affect."""
