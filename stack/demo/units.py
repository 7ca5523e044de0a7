"""Numbers as people read them."""

STEPS = ("B", "kB", "MB", "GB", "TB")


def size_text(size: float) -> str:
    """``12_300_000`` → ``12.3 MB`` (powers of 1000)."""
    for unit in STEPS:
        if size < 1000 or unit == STEPS[-1]:
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def per_second(rate: float) -> str:
    """A throughput, e.g. ``38.2 MB/s``."""
    return f"{size_text(rate)}/s"


def seconds_text(seconds: float) -> str:
    """``0.42 s``, ``12.3 s``, ``3 min 5 s``."""
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
