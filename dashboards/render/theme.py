"""Colours of the pictures, dark and light."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Theme:
    """The colours of a page and of the dashboards' colour names."""

    name: str
    page: str
    card: str
    border: str
    text: str
    quiet: str
    grid: str
    named: dict[str, str]
    heat: tuple[str, ...]

    def color(self, name: str) -> str:
        """Return the colour for a colour name of a dashboard."""
        return self.named.get(name, name)


DARK = Theme(
    name="dark",
    page="#0f1115",
    card="#181b20",
    border="#272b33",
    text="#dfe2e8",
    quiet="#8f96a3",
    grid="#2a2e37",
    named={
        "green": "#5fb878",
        "orange": "#ff9830",
        "red": "#f2495c",
        "blue": "#5a9bf6",
        "purple": "#b877d9",
        "yellow": "#fade2a",
        "light-blue": "#8ab8ff",
        "dark-red": "#c4162a",
    },
    heat=("#181b20", "#4a2c14", "#a3500f", "#f2841f", "#ffc36b", "#fff3d6"),
)
LIGHT = Theme(
    name="light",
    page="#f3f4f6",
    card="#ffffff",
    border="#dcdfe5",
    text="#20242c",
    quiet="#687080",
    grid="#e6e8ec",
    named={
        "green": "#2e9e52",
        "orange": "#e07b00",
        "red": "#d92638",
        "blue": "#2f6fd6",
        "purple": "#8f3bb8",
        "yellow": "#c9a400",
        "light-blue": "#7fb2ff",
        "dark-red": "#8f0e1e",
    },
    heat=("#ffffff", "#fde3c4", "#fdb462", "#f2841f", "#b34d05", "#5f2500"),
)
THEMES = {theme.name: theme for theme in (DARK, LIGHT)}

# Distinguishable on both backgrounds; similar hues are not adjacent.
_SERIES = (
    *("#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#1f78c1", "#ba43a9", "#705da0"),
    *("#508642", "#cca300", "#447ebc", "#c15c17", "#d683ce", "#58a8a0", "#b7805a", "#8f8fd8"),
)


def series_colors(names: list[str], fixed: dict[str, str] | None = None) -> list[str]:
    """Return a colour for each name: the fixed one, else that of its position in the palette, as in Grafana."""
    return [(fixed or {}).get(name, _SERIES[index % len(_SERIES)]) for index, name in enumerate(names)]
