"""Execution-scoped authority for autonomous agents."""
