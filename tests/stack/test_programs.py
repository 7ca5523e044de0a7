"""Programs that cannot be fetched: one error that says what to do."""

from pathlib import Path

import pytest

from sidecar import OpsError
from stack.programs import locate

APT = "#!/bin/sh\necho 'E: Could not resolve deb.invalid' >&2\nexit 100\n"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty PATH, and no program fetched before."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(locate, "PROGRAMS", tmp_path / "programs")
    locate.find.cache_clear()
    return folder


def test_a_missing_prometheus_is_an_error_with_installation_advice(path: Path) -> None:
    with pytest.raises(OpsError, match="program prometheus is missing") as caught:
        locate.find("prometheus")
    assert "on PATH" in caught.value.hint


def test_without_a_network_the_error_names_the_packages(path: Path) -> None:
    for name in ("apt-get", "dpkg"):
        (path / name).write_text(APT)
        (path / name).chmod(0o755)
    expected = "could not update the list of Debian packages: E: Could not resolve"
    with pytest.raises(OpsError, match=expected) as caught:
        locate.find("prometheus")
    assert caught.value.hint.endswith("apt-get install prometheus")
