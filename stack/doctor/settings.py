"""Checks that the settings are complete and valid, by each part's own rules."""

from collections.abc import Iterator
from pathlib import Path

from alerts.receivers import ReceiverSettings
from alerts.render import configuration, on_and_off
from backup.settings import BackupSettings
from sidecar import UsageError
from stack.doctor.check import Case, Check

REQUIRED = ("SITE_DOMAIN", "API_DOMAIN", "ACME_EMAIL", "ALLOWED_HOSTS", "BACKUP_STORE_URL")
SHORTEST_KEY = 50


def examine(case: Case) -> Iterator[Check]:
    yield _required(case)
    yield from _django(case)
    yield from _names(case)
    yield _backup(case)
    yield _encryption(case)
    yield from _receivers(case)


def _required(case: Case) -> Check:
    missing = [name for name in REQUIRED if not case.settings.get(name)]
    placeholders = [
        name for name, value in case.settings.items() if value.startswith("<") and value.endswith(">")
    ]
    if missing or placeholders:
        return Check(
            "settings",
            False,
            f"not filled in: {', '.join(missing + placeholders)}",
            "complete .env.production",
        )
    return Check("settings", True, f"{len(case.settings)} variables")


def _django(case: Case) -> Iterator[Check]:
    hosts = [host.strip() for host in case.settings.get("ALLOWED_HOSTS", "").split(",") if host.strip()]
    wanted = {case.settings.get("SITE_DOMAIN", ""), case.settings.get("API_DOMAIN", "")} - {""}
    if any("*" in host for host in hosts):
        yield Check("ALLOWED_HOSTS", False, "has a wildcard", "list the hosts")
    elif not wanted <= set(hosts):
        yield Check("ALLOWED_HOSTS", False, f"lacks {', '.join(sorted(wanted - set(hosts)))}", "add them")
    else:
        yield Check("ALLOWED_HOSTS", True, ", ".join(hosts))
    if case.settings.get("DEBUG", "").lower() in {"1", "true", "yes", "on"}:
        yield Check("DEBUG", False, "is on", "DEBUG=False")
    key = case.settings.get("SECRET_KEY", "")
    if key and len(key) < SHORTEST_KEY:
        yield Check(
            "SECRET_KEY", False, "is too short", "leave it empty: a good one is generated at the first start"
        )


def _names(case: Case) -> Iterator[Check]:
    """Checks other places that must contain the two domain names."""
    site, api = (case.settings.get(name, "") for name in ("SITE_DOMAIN", "API_DOMAIN"))
    probes, prometheus = "alerts/targets/blackbox.yml", "alerts/prometheus.yml"
    expected = {
        "CORS_ALLOWED_ORIGINS": (case.settings.get("CORS_ALLOWED_ORIGINS", ""), [f"https://{site}"]),
        "GF_SERVER_ROOT_URL": (case.settings.get("GF_SERVER_ROOT_URL", ""), [f"https://{api}/grafana/"]),
        probes: (_text(case.root / probes), [f"https://{site}/", f"https://{api}/"]),
        prometheus: (_text(case.root / prometheus), [f"https://{api}/grafana"]),
    }
    for where, (text, addresses) in expected.items():
        missing = [address for address in addresses if address not in text]
        if missing and site and api:
            yield Check(where, False, f"lacks {', '.join(missing)}", "add it there")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _backup(case: Case) -> Check:
    # The database URL is generated at the first start when none is given.
    given = {"BACKUP_DATABASE_URLS": "posthub=postgresql://posthub_backup@posthub_postgres_prod/posthub"}
    try:
        BackupSettings.load({**given, **{name: value for name, value in case.settings.items() if value}})
    except UsageError as error:
        return Check("backup settings", False, str(error), "docs/configuration.md lists them")
    return Check("backup settings", True, case.settings.get("BACKUP_STORE_URL", ""))


def _encryption(case: Case) -> Check:
    recipients, identity = (
        case.settings.get("BACKUP_AGE_RECIPIENTS"),
        case.settings.get("BACKUP_AGE_IDENTITY"),
    )
    if not recipients:
        return Check(
            "encryption",
            None,
            "backups are not encrypted",
            # In the checkout, whose Python the doctor has installed.
            ".venv/bin/python -m backup keygen ~/age-identity.txt; set BACKUP_AGE_RECIPIENTS and _IDENTITY",
        )
    if not identity:
        return Check("encryption", False, "backups cannot be verified", "set BACKUP_AGE_IDENTITY")
    return Check("encryption", True, "age; keep a copy of the private key elsewhere")


def _receivers(case: Case) -> Iterator[Check]:
    try:
        receivers = ReceiverSettings.load(case.settings)
        configuration(receivers)
        on, _ = on_and_off(receivers)
    except UsageError as error:
        yield Check("receivers", False, str(error), "correct .env.production")
        return
    people = [name for name in on if name != "dead man's switch"]
    if people:
        yield Check("receivers", True, ", ".join(people))
    else:
        yield Check("receivers", False, "no one is notified", "set one of ALERTMANAGER_…: Slack, e-mail, …")
    if "dead man's switch" not in on:
        yield Check(
            "dead man's switch",
            None,
            "no one notices when the monitoring itself fails",
            "set ALERTMANAGER_HEARTBEAT_URL",
        )
