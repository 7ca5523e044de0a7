"""Durations on the command line: ``90s``, ``30m``, ``2h``, ``1d``."""

import re
from datetime import timedelta

import click

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Duration(click.ParamType[timedelta]):
    """A command-line value such as 2h or 1h30m."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Parse a duration; an invalid one is a usage error."""
        if isinstance(value, timedelta):
            return value
        parts = re.findall(r"(\d+)([smhdw])", str(value))
        if not parts or "".join(number + unit for number, unit in parts) != value:
            self.fail(f"{value!r} is not a duration such as 30m, 2h or 1d", param, ctx)
        return sum((timedelta(**{UNITS[unit]: int(number)}) for number, unit in parts), timedelta())
