"""Reports runs to an external dead man's switch, which alerts people when the reports stop."""

from pydantic import SecretStr

from backup.settings import BackupSettings
from sidecar import deadman


class Pings:
    """The three calls. Each is made only if its URL is set, and none fails the run that it reports."""

    def __init__(self, settings: BackupSettings) -> None:
        self._settings = settings

    def started(self) -> None:
        """A run begins."""
        _call("start", self._settings.ping_start_url)

    def proven(self) -> None:
        """A backup was made and verified; nothing less counts as success."""
        _call("success", self._settings.ping_url)

    def failed(self, reason: str) -> None:
        """A run or its verification failed."""
        _call("failure", self._settings.ping_failure_url, reason)


def _call(name: str, url: SecretStr | None, text: str = "") -> None:
    if url is not None:
        deadman.call(url.get_secret_value(), text, name=name)
