"""Colours of the pictures, dark and light.

The named colours and those of series are Grafana's own, in the version that production runs (`@grafana/data`, Apache-2.0);
tests/dashboards compares them.
"""

from dataclasses import dataclass

# The end of the palette is the same in both themes.
_SERIES = (
    *("#447ebc", "#c15c17", "#890f02", "#0a437c", "#6d1f62", "#584477", "#b7dbab", "#f4d598"),
    *("#70dbed", "#f9ba8f", "#f29191", "#82b5d8", "#e5a8e2", "#aea2e0", "#629e51", "#e5ac0e"),
    *("#64b0c8", "#e0752d", "#bf1b00", "#0a50a1", "#962d82", "#614d93", "#9ac48a", "#f2c96d"),
    *("#65c5db", "#f9934e", "#ea6460", "#5195ce", "#d683ce", "#806eb7", "#3f6833", "#967302"),
    *("#2f575e", "#99440a", "#58140c", "#052b51", "#511749", "#3f2b5b", "#e0f9d7", "#fceaca"),
    *("#cffaff", "#f9e2d2", "#fce2de", "#badff4", "#f9d9f9", "#dedaf7"),
)


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
    series: tuple[str, ...]
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
        "green": "#73bf69",
        "orange": "#ff9830",
        "red": "#f2495c",
        "blue": "#5794f2",
        "purple": "#b877d9",
        "yellow": "#fade2a",
        "light-blue": "#8ab8ff",
        "dark-red": "#c4162a",
    },
    series=(
        *("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c"),
        *("#5794f2", "#b877d9", "#705da0", "#37872d", "#fade2a"),
        *_SERIES,
    ),
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
        "green": "#56a64b",
        "orange": "#ff780a",
        "red": "#e02f44",
        "blue": "#3274d9",
        "purple": "#a352cc",
        "yellow": "#f2cc0c",
        "light-blue": "#5794f2",
        "dark-red": "#ad0317",
    },
    series=(
        *("#56a64b", "#e0b400", "#5794f2", "#fa6400", "#e02f44"),
        *("#3274d9", "#a352cc", "#705da0", "#19730e", "#f2cc0c"),
        *_SERIES,
    ),
    heat=("#ffffff", "#fde3c4", "#fdb462", "#f2841f", "#b34d05", "#5f2500"),
)
THEMES = {theme.name: theme for theme in (DARK, LIGHT)}


def series_colors(theme: Theme, names: list[str], fixed: dict[str, str] | None = None) -> list[str]:
    """Return a colour for each name: the fixed one, else that of its position in the palette, as in Grafana."""
    palette = theme.series
    return [(fixed or {}).get(name, palette[index % len(palette)]) for index, name in enumerate(names)]
