"""A business review, attacked: the demo of capx, with real processes, real HTTP and a real sink."""
