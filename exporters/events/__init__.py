"""Event receivers: one per kind of broker."""
