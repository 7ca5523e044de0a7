"""The columns of progress bars that count bytes."""

from rich.progress import (
    BarColumn,
    DownloadColumn,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


def transfer(*, with_speed: bool = False) -> tuple[ProgressColumn, ...]:
    """Description, bar, bytes, elapsed time and remaining time."""
    speed = (TransferSpeedColumn(),) if with_speed else ()
    return (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        *speed,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
