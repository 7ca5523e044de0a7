"""The installed package: one importable name, which nobody else has.

Our own packages are called ``backup``, ``alerts``, … , as others' are. In the wheel they lie below this one, and only the
processes of our commands can import them.
"""
