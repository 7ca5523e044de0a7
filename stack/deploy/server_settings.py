"""The server's settings for the cluster: what .env.production sets, as a patch of an overlay's ConfigMaps."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import yaml

APP, BACKUP = "posthub-config", "posthub-backup-config"
PATCH = "settings.yaml"
# Settings, or their beginnings, that the cluster does not take from the server, and what decides instead.
ELSEWHERE = {
    "SITE_DOMAIN": "the overlay's Ingress",
    "API_DOMAIN": "the overlay's Ingress",
    "ACME_EMAIL": "cert-manager's ClusterIssuer",
    "CADDY_": "the ingress controller",
    "HSTS": "the ingress controller",
    "DJANGO_SETTINGS_MODULE": "the manifests",
    "DEBUG": "the manifests",
    "BACKUP_STORE_URL": "the overlay: the cluster has its own folder in the bucket",
    "BACKUP_SCHEDULE": "the CronJob",
    "BACKUP_CATCH_UP": "the CronJob",
    "BACKUP_HOST": "the manifests",
    "BACKUP_PORT": "the manifests",
    "BACKUP_WORK_DIR": "the manifests",
    "BACKUP_SPOOL_DIR": "the manifests",
    "CELERY_EXPORTER_": "k8s/base/sidecars/exporter.yaml",
    "ALERTMANAGER_": "the configuration that ./ops alerts render writes",
    "ALERTS_": "k8s/base/monitoring/alert-watch.yaml",
    "GF_": "k8s/kube-prometheus-stack.yml",
}


@dataclass(frozen=True)
class ServerSettings:
    """Settings by ConfigMap, and those that something else decides in the cluster."""

    taken: Mapping[str, Mapping[str, str]]
    left: Mapping[str, str]

    def patch(self) -> str:
        """The patch of the overlay."""
        head = "# Written by `./ops deploy settings` from the server's .env.production.\n"
        maps = (
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": dict(data)}
            for name, data in self.taken.items()
        )
        return head + yaml.safe_dump_all(maps, sort_keys=False)


def server_settings(environment: Mapping[str, str], secrets: Iterable[str]) -> ServerSettings:
    """Sort the variables of .env.production. Empty ones are the default, and secrets arrive as files."""
    taken: dict[str, dict[str, str]] = {APP: {}, BACKUP: {}}
    left: dict[str, str] = {}
    known = set(secrets)
    for name, value in sorted(environment.items()):
        if not value or name in known:
            continue
        reason = decided_by(name)
        if reason:
            left[name] = reason
        else:
            taken[BACKUP if name.startswith("BACKUP_") else APP][name] = value
    return ServerSettings(taken, left)


def decided_by(name: str) -> str:
    """What decides a setting in the cluster instead of the server; empty if the server does."""
    return next(
        (
            reason
            for known, reason in ELSEWHERE.items()
            if name == known or (known.endswith("_") and name.startswith(known))
        ),
        "",
    )
