"""The user with which Prometheus, Alertmanager and the watch sign in to each other."""

from collections.abc import Mapping

from pydantic import Field, SecretStr

from sidecar.settings import Settings

Login = tuple[str, str]


class LoginSettings(Settings):
    """A user of Alertmanager's and the watch's pages. Without a password, both are open."""

    username: str = Field(
        "alerts",
        validation_alias="ALERTS_USERNAME",
        description="User with which Alertmanager and the watch sign in to each other.",
    )
    password: SecretStr | None = Field(
        None,
        validation_alias="ALERTS_PASSWORD",
        description="Password of that user; without it, there is no sign-in.",
    )

    @property
    def login(self) -> Login | None:
        """User and password."""
        return (self.username, self.password.get_secret_value()) if self.password else None


def login(environ: Mapping[str, str]) -> Login | None:
    """User and password from the environment, if there is a password."""
    return LoginSettings.load(environ).login
