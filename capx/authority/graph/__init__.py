"""The execution graph: who delegated to whom, how the calls of each node were decided, what a revocation affects."""
