"""Settings from the environment, validated once at start.

Every variable ``NAME`` may be given as ``NAME_FILE`` instead: the path of a file with the value, as Docker
and Kubernetes mount secrets. Documentation and the example environment file are produced from the same fields.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from sidecar.errors import UsageError

MASK = "********"


class Settings(BaseModel):
    """Base of a sidecar's settings.

    The variable of a field is :attr:`env_prefix` and the field's name in capitals. ``validation_alias`` is given
    only for other names: a string replaces the variable's name, and ``AliasChoices`` adds names after it.
    """

    env_prefix: ClassVar[str] = ""
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, validate_default=True)

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """Read and validate the settings.

        Args:
            environ: the environment; the process's own by default.
            overrides: values by field name that take precedence over the environment (command-line options). None: not given.

        Raises:
            UsageError: a variable is missing or invalid. The error names each variable and, unless it is secret, its value.
        """
        given = {name: value for name, value in overrides.items() if value is not None}
        values = dict(from_environment(cls, os.environ if environ is None else environ, skip=given))
        try:
            return cls(**values, **given)
        except ValidationError as error:
            raise _usage_error(cls, error) from None

    def secrets(self) -> list[str]:
        """Every secret value in these settings, for masking in logs."""
        values = (getattr(self, name) for name in type(self).model_fields)
        found = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
        return [secret for secret in found if secret]


@dataclass(frozen=True)
class Variable:
    """One documented setting."""

    names: tuple[str, ...]
    description: str
    default: str | None
    required: bool
    secret: bool


def variables(settings: type[Settings]) -> list[Variable]:
    """The documented settings of a class, in the order of its fields."""
    return [_variable(settings, name, field) for name, field in settings.model_fields.items()]


def markdown_table(settings: type[Settings]) -> str:
    """The settings as a Markdown table for docs/configuration.md."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for variable in variables(settings):
        names = ", ".join(f"`{name}`" for name in variable.names)
        meaning = variable.description.replace("|", r"\|")
        rows.append(f"| {names} | {_default_text(variable)} | {meaning} |")
    return "\n".join(rows) + "\n"


def env_example(settings: type[Settings], *, known: Collection[str] = ()) -> str:
    """The settings as commented lines for .env.production.example.

    Args:
        known: variables that the file already has.
    """
    lines = []
    for variable in variables(settings):
        if not set(variable.names) & set(known):
            lines.append(f"# {'secret: ' if variable.secret else ''}{variable.description}")
            lines.append(f"# {variable.names[0]}={variable.default or ''}")
    return "\n".join(lines) + "\n"


def names_of(settings: type[Settings], name: str, field: FieldInfo) -> tuple[str, ...]:
    """The environment variables of a field, preferred one first."""
    alias = field.validation_alias
    if isinstance(alias, str):
        return (alias,)
    further = [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else []
    # Without a prefix, the aliases are complete names: a bare SLACK_URL is not one of our variables.
    if further and not settings.env_prefix:
        return tuple(further)
    return (settings.env_prefix + name.upper(), *further)


def from_environment(
    settings: type[Settings], environ: Mapping[str, str], *, skip: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """The values that are set, by field name; an empty variable counts as not given.

    Raises:
        UsageError: a ``_FILE`` twin cannot be read, or a variable and its twin are both given.
    """
    for name, field in settings.model_fields.items():
        if name in skip:
            continue
        for variable in names_of(settings, name, field):
            value = read_variable(environ, variable)
            if value is not None:
                yield name, value
                break


def read_variable(environ: Mapping[str, str], variable: str) -> str | None:
    """One variable's value, from itself or from the file that its ``_FILE`` twin names."""
    value, path = environ.get(variable) or None, environ.get(f"{variable}_FILE") or None
    if path is None:
        return value
    if value is not None:
        raise UsageError(f"{variable} and {variable}_FILE are both set", hint="keep one of the two")
    try:
        return Path(path).read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(
            f"{variable}_FILE={path} cannot be read: {reason}",
            hint="mount the secret there, readable by this user",
        ) from None


def _is_secret(field: FieldInfo) -> bool:
    return "SecretStr" in str(field.annotation)


def _variable(settings: type[Settings], name: str, field: FieldInfo) -> Variable:
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is PydanticUndefined or default is None or _is_secret(field):
        text = None
    elif isinstance(default, bool):
        text = str(default).lower()
    elif isinstance(default, timedelta):
        text = _span(default)
    elif isinstance(default, tuple | list):
        text = ",".join(str(item) for item in default)
    else:
        text = str(default)
    return Variable(
        names=names_of(settings, name, field),
        description=field.description or "",
        default=text,
        required=field.is_required(),
        secret=_is_secret(field),
    )


def _span(value: timedelta) -> str:
    """A duration in a variable: ``7d``, ``36h``."""
    hours = value // timedelta(hours=1)
    return f"{hours // 24}d" if hours and hours % 24 == 0 else f"{hours}h"


def _default_text(variable: Variable) -> str:
    if variable.required:
        return "required"
    return f"`{variable.default}`" if variable.default else "–"


def _usage_error(settings: type[Settings], error: ValidationError) -> UsageError:
    problems = [_problem(settings, detail) for detail in error.errors(include_url=False)]
    return UsageError(
        "; ".join(problems), hint="correct the variable; docs/configuration.md lists all of them"
    )


def _problem(settings: type[Settings], detail: ErrorDetails) -> str:
    location = str(detail["loc"][0]) if detail["loc"] else ""
    name, field = _field_at(settings, location)
    message = detail["msg"].removeprefix("Value error, ")
    if field is None:
        return message
    variable = names_of(settings, name, field)[0]
    if detail["type"] == "missing":
        return f"{variable} is not set"
    shown = MASK if _is_secret(field) else str(detail["input"])
    return f"{variable}={shown}: {message[:1].lower()}{message[1:]}"


def _field_at(settings: type[Settings], location: str) -> tuple[str, FieldInfo | None]:
    for name, field in settings.model_fields.items():
        if location in (name, *names_of(settings, name, field)):
            return name, field
    return location, None
