from pathlib import Path

import pytest
from pydantic import AliasChoices, Field, SecretStr

from sidecar import UsageError
from sidecar.settings import Settings, env_example, markdown_table


class Example(Settings):
    env_prefix = "EX_"

    port: int = Field(9808, ge=1, le=65535, description="Port to listen on")
    url: str = Field(description="Where|how", validation_alias=AliasChoices("OLD_URL"))
    token: SecretStr | None = Field(None, description="A secret", validation_alias="EX_TOKEN")


def test_values_come_from_the_environment_and_options_win() -> None:
    settings = Example.load({"EX_PORT": "80", "OLD_URL": "redis://a"}, port=81)
    assert (settings.port, settings.url) == (81, "redis://a")


def test_the_preferred_name_wins_over_its_alias() -> None:
    assert Example.load({"EX_URL": "new", "OLD_URL": "old"}).url == "new"


def test_a_file_variable_is_read_and_stripped(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    settings = Example.load({"EX_URL": "x", "EX_TOKEN_FILE": str(tmp_path / "token")})
    assert settings.token is not None
    assert settings.token.get_secret_value() == "s3cret"
    assert settings.secrets() == ["s3cret"]
    assert "s3cret" not in repr(settings)


@pytest.mark.parametrize("content", ["", "  \n"])
def test_an_empty_file_counts_as_not_given(content: str, tmp_path: Path) -> None:
    """As an empty variable does: a secret that is not used is mounted as an empty file."""
    (tmp_path / "token").write_text(content)
    settings = Example.load({"EX_URL": "x", "EX_TOKEN_FILE": str(tmp_path / "token")})
    assert settings == Example.load({"EX_URL": "x", "EX_TOKEN": ""}) == Example.load({"EX_URL": "x"})


def test_the_error_for_an_unreadable_file_names_variable_and_path() -> None:
    with pytest.raises(UsageError, match=r"EX_TOKEN_FILE=/nowhere/token cannot be read"):
        Example.load({"EX_URL": "x", "EX_TOKEN_FILE": "/nowhere/token"})


def test_a_variable_and_its_file_variable_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="EX_URL and EX_URL_FILE are both set"):
        Example.load({"EX_URL": "x", "EX_URL_FILE": "y"})


def test_the_error_names_an_invalid_value() -> None:
    with pytest.raises(UsageError, match="EX_PORT=seventy: input should be a valid integer"):
        Example.load({"EX_URL": "x", "EX_PORT": "seventy"})


def test_the_error_names_a_missing_or_empty_variable() -> None:
    with pytest.raises(UsageError, match="EX_URL is not set"):
        Example.load({"EX_URL": ""})


def test_an_invalid_secret_is_not_shown() -> None:
    class Short(Settings):
        token: SecretStr = Field(min_length=20, description="A secret", validation_alias="EX_TOKEN")

    with pytest.raises(UsageError) as caught:
        Short.load({"EX_TOKEN": "hunter2"})
    assert "hunter2" not in str(caught.value)
    assert "EX_TOKEN=********" in str(caught.value)


def test_documentation_lists_every_variable() -> None:
    assert markdown_table(Example) == (
        "| variable | default | meaning |\n|---|---|---|\n"
        "| `EX_PORT` | `9808` | Port to listen on |\n"
        "| `EX_URL`, `OLD_URL` | required | Where\\|how |\n"
        "| `EX_TOKEN` | – | A secret |\n"
    )
    assert env_example(Example) == (
        "# Port to listen on\n# EX_PORT=9808\n# Where|how\n# EX_URL=\n# secret: A secret\n# EX_TOKEN=\n"
    )
    assert env_example(Example, known={"OLD_URL", "EX_TOKEN"}) == "# Port to listen on\n# EX_PORT=9808\n"
