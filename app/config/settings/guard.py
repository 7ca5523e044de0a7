"""Settings that production refuses. All problems are reported at once."""

from collections.abc import Mapping, Sequence

from config.env import ConfigError

MINIMUM_LENGTH = 50
MINIMUM_VARIETY = 5
PLACEHOLDERS = (
    "django-insecure",
    "<",
    "change-me",
    "changeme",
    "production-secret",
    "your-secret",
    "replace",
    # The Dockerfile once contained this key, and its history is public.
    "only-while-the-image-is-built",
)


def problems(
    *,
    secret_key: str,
    debug: bool,
    hosts: Sequence[str],
    missing: Sequence[str] = (),
    providers: Mapping[str, str] | None = None,
    forbidden: Sequence[str] = (),
) -> list[str]:
    """What is unsafe. `providers` has addresses by variable: stand-ins without TLS are for development only."""
    found = [f"{name} is not set" for name in missing]
    found += [
        f"{name} does not begin with https://"
        for name, url in (providers or {}).items()
        if not url.startswith("https://")
    ]
    found += [f"{name} is set, which is allowed only in development" for name in forbidden]
    found += _secret_key(secret_key)
    if debug:
        found.append("DEBUG is true")
    if not hosts:
        found.append("ALLOWED_HOSTS is empty")
    found += [f"ALLOWED_HOSTS contains the wildcard {host!r}" for host in hosts if "*" in host or host == "."]
    return found


def _secret_key(key: str) -> list[str]:
    if not key:
        return ["SECRET_KEY is not set"]
    if key.lower().startswith(PLACEHOLDERS):
        return ["SECRET_KEY is a placeholder"]
    if len(key) < MINIMUM_LENGTH or len(set(key)) < MINIMUM_VARIETY:
        return [f"SECRET_KEY is too weak (needs {MINIMUM_LENGTH} characters, not all the same)"]
    return []


def require_safe(found: Sequence[str]) -> None:
    """Refuse to start with any of these :func:`problems`.

    Raises:
        ConfigError: there are some.
    """
    if found:
        raise ConfigError(
            "production settings refuse to start: " + "; ".join(found),
            "correct .env.production; ALLOWED_HOSTS=api.posthub.work, and a key from "
            "python -c 'import secrets; print(secrets.token_urlsafe(50))'",
        )
