"""The example of production's variables, as data."""

from collections.abc import Mapping

from stack.paths import ROOT


def example_variables() -> Mapping[str, str]:
    """The variables in .env.production.example."""
    lines = (ROOT / ".env.production.example").read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value.strip("'") for name, _, value in pairs}
