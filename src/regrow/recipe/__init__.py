"""The composition root: a whole run as one typed, strict, serialisable recipe."""
