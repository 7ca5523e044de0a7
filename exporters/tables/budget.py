"""The series budget: how many series the tables may create."""


class Budget:
    """How many series may exist; what asks for more goes into the overflow series and is counted."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.capped = 0

    def take(self, series: int, *, vital: bool = False) -> bool:
        """Reserve series; False, and counted, when there is no room. A tenth is kept for what is vital."""
        if self.used + series > (self.limit if vital else self.limit - self.limit // 10):
            self.capped += 1
            return False
        self.used += series
        return True

    def give_back(self, series: int) -> None:
        self.used -= series
