import re

from sidecar.version import __version__
from stack import docs
from stack.paths import ROOT


def test_the_configuration_page_matches_the_settings() -> None:
    assert docs.CONFIGURATION.read_text(encoding="utf-8") == docs.configuration(), "run ./ops docs"


def test_the_example_of_production_has_every_setting() -> None:
    assert docs.EXAMPLE.read_text(encoding="utf-8") == docs.example(), "run ./ops docs"


def test_the_newest_release_of_the_changelog_is_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    releases = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d{2}-\d{2}$", text, re.MULTILINE)
    assert releases[0] == __version__
    assert text.index("## [Unreleased]") < text.index(f"## [{__version__}]")
