"""The capx command."""
