"""The signed feed of revocations, as a resource reads it: one page after the other, or as a stream."""
