"""The join of a task's events: uuid → what is known of the task, in bounded memory.

Only task-sent and task-received say what task and queue a uuid belongs to. Entries leave when a task ends; tasks
that never end (their events were lost, or they wait for weeks) leave by age: two generations of half the limit
each, and when the young one is full the old one is dropped whole. That is constant work an event; evicting
single entries from the front of a dict is not.

The key is the id's 64-bit hash, a third of the size of the id: among 100,000 tasks two share one once in billions of
fillings, and a sender cannot aim at it, since the hash is keyed anew in each process.
"""

from exporters.tables.groups import Entry


class InFlight:
    """The bounded uuid → entry table."""

    __slots__ = ("evicted", "half", "old", "young")

    def __init__(self, limit: int) -> None:
        self.half = max(limit // 2, 1)
        self.young: dict[int, Entry] = {}
        self.old: dict[int, Entry] = {}
        self.evicted = 0

    def __len__(self) -> int:
        return len(self.young) + len(self.old)

    def get(self, uuid: str) -> Entry | None:
        key = hash(uuid)
        return self.young.get(key) or self.old.get(key)

    def put(self, uuid: str, entry: Entry) -> None:
        if len(self.young) >= self.half:
            self.age()
        self.young[hash(uuid)] = entry

    def pop(self, uuid: str) -> Entry | None:
        key = hash(uuid)
        entry = self.young.pop(key, None)
        stale = self.old.pop(key, None) if self.old else None
        return entry or stale

    def age(self) -> None:
        """Forget the old generation; the young one becomes old."""
        self.evicted += len(self.old)
        self.old = self.young
        self.young = {}
