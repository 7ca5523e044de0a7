"""The installed package, under one unique importable name.

Our packages have common names such as ``backup`` and ``alerts``. In the wheel they are below this one, and only the
processes of our commands can import them.
"""
