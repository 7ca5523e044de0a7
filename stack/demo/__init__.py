"""``./ops demo``: the whole suite at work, shown step by step."""
