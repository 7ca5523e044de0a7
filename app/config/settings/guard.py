"""What production refuses. All that is wrong is told at once, so that one repair is enough."""

from collections.abc import Sequence

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
    # The Dockerfile had such a key, which everybody can read in its history.
    "only-while-the-image-is-built",
)


def problems(*, secret_key: str, debug: bool, hosts: Sequence[str], missing: Sequence[str] = ()) -> list[str]:
    found = [f"{name} is not set" for name in missing]
    found += _secret_key(secret_key)
    if debug:
        found.append("DEBUG is on")
    if not hosts:
        found.append("ALLOWED_HOSTS is empty")
    found += [f"ALLOWED_HOSTS has the wild card {host!r}" for host in hosts if "*" in host or host == "."]
    return found


def _secret_key(key: str) -> list[str]:
    if not key:
        return ["SECRET_KEY is not set"]
    if key.lower().startswith(PLACEHOLDERS):
        return ["SECRET_KEY is a placeholder"]
    if len(key) < MINIMUM_LENGTH or len(set(key)) < MINIMUM_VARIETY:
        return [f"SECRET_KEY is too weak (needs {MINIMUM_LENGTH} characters, not all alike)"]
    return []


def require_safe(*, secret_key: str, debug: bool, hosts: Sequence[str], missing: Sequence[str] = ()) -> None:
    found = problems(secret_key=secret_key, debug=debug, hosts=hosts, missing=missing)
    if found:
        raise ConfigError(
            "production settings refuse to start: " + "; ".join(found),
            "repair .env.production; a key: "
            "python -c 'import secrets; print(secrets.token_urlsafe(50))', hosts: ALLOWED_HOSTS=api.posthub.work",
        )
