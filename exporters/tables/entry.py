"""What is known about a task in flight, packed into one integer, and the key under which it is kept.

An entry has the index of the task's group, two flags, and when the task was due (0: not known), in ticks since an
origin. It takes about half the memory of an object.

The key is the hash of the task's ID (60 bits). With 100,000 tasks, the chance that two share one is about one in a
hundred million, and a sender cannot provoke it, because each process has its own hash key.
"""

GROUP_MASK = (1 << 24) - 1
RUNNING = 1 << 24
# The next task-received of this ID is not another execution: the last one ended in a retry, or the worker itself said
# that it holds the task.
BETWEEN = 1 << 25
# The low bits of an entry fit 32 bits, its due time the 64 above them.
DUE_SHIFT = 26
TICKS = 65536.0
MAX_TICKS = 1 << 44
KEY_BITS = 60
KEY_MASK = (1 << KEY_BITS) - 1


def refuse_anonymous() -> int:
    """Reject a task event without an ID.

    Raises:
        ValueError: always.
    """
    raise ValueError("a task event needs an ID")
