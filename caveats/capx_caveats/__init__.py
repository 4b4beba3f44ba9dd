"""The vocabulary of caveats: what each one demands of a call."""
