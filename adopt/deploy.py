"""How the sidecars run in another project: Compose services, systemd units or Kubernetes objects, and their settings. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parent.parent
# Part → the end of the service's name, after the app's.
SIDECARS = {"celery": "celery-exporter", "backup": "backup"}
PORTS = {
    "celery": 9808,
    "backup": 9809,
    "django": 8000,
    "redis": 9121,
    "postgres": 9187,
    "node": 9100,
    "cadvisor": 8080,
}
# The other exporters, under the names of their images and packages.
OTHERS = {
    "django": "api",
    "redis": "redis-exporter",
    "postgres": "postgres-exporter",
    "node": "node-exporter",
    "cadvisor": "cadvisor",
    "alertmanager": "alertmanager",
    "prometheus": "prometheus",
}
IMAGES = {"celery": "ops-celery-exporter", "backup": "ops-backup"}
USERS = {"celery": 10002, "backup": 10003}
PROMETHEUS, ALERTMANAGER, GRAFANA = (
    "prom/prometheus:v3.16.0",
    "prom/alertmanager:v0.35.0",
    "grafana/grafana:12.1.1",
)
RENDER = "python -m alerts render --from alertmanager.yml --output alertmanager.rendered.yml"
UNITS = {"celery": "ops-exporter", "backup": "ops-backup"}


@dataclass(frozen=True)
class Setting:
    """A line of an environment file; empty values count as not set.

    Attributes:
        stacks: where it belongs to; empty: everywhere.
    """

    name: str
    value: str = ""
    comment: str = ""
    stacks: tuple[str, ...] = ()


def settings(part: str, app: str) -> list[Setting]:
    """What has to be filled in, as upper-case words, and the settings that are most often needed as well."""
    if part == "celery":
        return [
            Setting(
                "CELERY_EXPORTER_BROKER_URL", "redis://HOST:6379/0", "As broker_url in the Celery settings."
            ),
            Setting(
                "CELERY_EXPORTER_DATABASE_URL", "", "With django-celery-beat: its database, for schedules."
            ),
        ]
    return [
        Setting(
            "DATABASE_URL",
            f"postgres://USER:PASSWORD@HOST:5432/{app}",
            "The database; a role that may read all of it.",
        ),
        Setting("BACKUP_STORE_URL", f"s3://BUCKET/{app}", "s3://BUCKET/PREFIX, or file:///FOLDER."),
        Setting("BACKUP_S3_ENDPOINT_URL", "", "Empty for Amazon."),
        Setting("BACKUP_S3_ACCESS_KEY_ID"),
        Setting("BACKUP_S3_SECRET_ACCESS_KEY"),
        Setting(
            "BACKUP_SCHEDULE", "0 2 * * *", "When, in cron's syntax; in UTC unless BACKUP_TIMEZONE is set."
        ),
        Setting(
            "BACKUP_AGE_RECIPIENTS", "", "Public key, from `python -m backup keygen`. Empty: NOT encrypted."
        ),
        Setting(
            "BACKUP_AGE_IDENTITY", "", "Private key, which the verification needs. Keep a copy elsewhere."
        ),
        Setting(
            "BACKUP_POSTGRES_BIN",
            "/usr/lib/postgresql/17/bin",
            "PostgreSQL's programs, in the server's version or newer.",
            ("systemd",),
        ),
    ]


def address_of(part: str, app: str, stack: str) -> str:
    """The address of a part unless another one is given."""
    port = {"alertmanager": 9093, "prometheus": 9090, **PORTS}[part]
    if stack == "systemd" or part == "node":
        return f"localhost:{port}"
    return f"{_service(part, app, stack)}:{port}"


def deployment(app: str, parts: Mapping[str, str], stack: str) -> dict[str, str]:
    """The files that run the sidecars, by path.

    Args:
        parts: those that are used; only the sidecars among them are run.
    """
    sidecars = [part for part in SIDECARS if part in parts]
    if not sidecars:
        return {}
    folder = "kubernetes/env" if stack == "kubernetes" else "env"
    found = {f"{folder}/{SIDECARS[part]}.env": _env(part, app, stack) for part in sidecars}
    makers = {"compose": _compose, "systemd": _systemd, "kubernetes": _kubernetes}
    return {**found, **dict(makers[stack](app, sidecars))}


def next_steps(app: str, parts: Mapping[str, str], stack: str) -> list[str]:
    """What is left to do by hand, in order."""
    sidecars = [part for part in SIDECARS if part in parts]
    folder = "kubernetes/env" if stack == "kubernetes" else "env"
    steps = []
    if sidecars:
        steps.append(f"fill in {' and '.join(f'{folder}/{SIDECARS[part]}.env' for part in sidecars)}")
    names = [_service(part, app, stack) for part in sidecars]
    if stack == "compose":
        steps += [f"docker compose up -d {' '.join(names)}"] if names else []
        return [
            *steps,
            f"{RENDER}   # with the receivers whose secrets are set",
            "sudo chown 65534 alertmanager.rendered.yml   # the user of Alertmanager's image; it has secrets",
            "docker compose --profile monitoring up -d",
        ]
    if stack == "kubernetes":
        return [
            *steps,
            "kubectl apply -k kubernetes",
            "kubectl apply -k kubernetes/operator   # with the Prometheus operator",
        ]
    for part, name in zip(sidecars, names, strict=True):
        steps.append(
            f"install -D -m 600 env/{SIDECARS[part]}.env /etc/ops/{name}.env && "
            f"install -m 644 systemd/{name}.service /etc/systemd/system/ && systemctl enable --now {name}"
        )
    return [
        *steps,
        f"{RENDER}   # with the receivers whose secrets are set",
        "prometheus --config.file=prometheus.yml & alertmanager --config.file=alertmanager.rendered.yml",
    ]


def _service(part: str, app: str, stack: str) -> str:
    name = f"{app}-{SIDECARS.get(part) or OTHERS[part]}"
    # As the commands on the pages of alerts call it.
    return f"{app}_{name.removeprefix(f'{app}-').replace('-', '_')}" if stack == "compose" else name


def _env(part: str, app: str, stack: str) -> str:
    command = {"celery": "exporters", "backup": "backup"}[part]
    check = {"celery": "check", "backup": "doctor"}[part]
    lines = [
        f"# Settings of {_service(part, app, stack)}; keep them secret. `python -m {command} {check}` reports what is wrong."
    ]
    # Kustomize reads quotes as part of the value; systemd, Compose and shells do not.
    quote = "" if stack == "kubernetes" else "'"
    for each in settings(part, app):
        if not each.stacks or stack in each.stacks:
            lines += [f"# {each.comment}"] if each.comment else []
            lines.append(f"{each.name}={quote}{each.value}{quote}")
    return "\n".join(lines) + "\n"


# Compose


def _compose(app: str, sidecars: list[str]) -> Iterator[tuple[str, str]]:
    services: Json = {_service(part, app, "compose"): _composed(part) for part in sidecars}
    services |= _servers(app)
    document = {
        "services": services,
        "volumes": {
            **({"backup_data": {}} if "backup" in sidecars else {}),
            "prometheus_data": {},
            "alertmanager_data": {},
            "grafana_data": {},
        },
        "networks": {
            "default": {"name": f"${{APP_NETWORK:-{app}_default}}", "external": True},
            # Not the app's: anyone who reaches Alertmanager can silence every alert.
            MONITORING: {},
        },
    }
    yield "compose.yml", f"{_COMPOSE_HEAD}{_yaml(document)}"


_COMPOSE_HEAD = """# The sidecars, in the network of the project: `docker compose up -d`. Fill in env/*.env first.
# APP_NETWORK names that network, in the environment or in .env: `docker network ls` lists them.
# `--profile monitoring` also starts Prometheus, Alertmanager and Grafana, for those who have none yet.
# Build the images once, in a checkout of the sidecars:
#   docker build -t ops-backup -f backup/Dockerfile . && docker build -t ops-celery-exporter -f exporters/Dockerfile .
"""
MONITORING = "monitoring"
_HARDENED: Json = {
    "restart": "unless-stopped",
    "read_only": True,
    "tmpfs": ["/tmp"],  # noqa: S108 - in the container
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "pids_limit": 512,
}


def _composed(part: str) -> Json:
    variable = f"{IMAGES[part].upper().replace('-', '_')}_IMAGE"
    service: Json = {
        "image": f"${{{variable}:-{IMAGES[part]}:latest}}",
        "init": True,
        "env_file": [f"env/{SIDECARS[part]}.env"],
        # For the status page; only this machine reaches it.
        "ports": [f"127.0.0.1:{PORTS[part]}:{PORTS[part]}"],
        **_HARDENED,
    }
    if part == "backup":
        service |= {"volumes": ["backup_data:/var/lib/backup"], "stop_grace_period": "60s"}
    return service


def _servers(app: str) -> Json:
    common = {"profiles": ["monitoring"], **_HARDENED}
    return {
        f"{app}_prometheus": {
            "image": PROMETHEUS,
            "command": [
                "--config.file=/etc/prometheus/prometheus.yml",
                "--storage.tsdb.path=/prometheus",
                "--storage.tsdb.retention.time=30d",
            ],
            "volumes": [
                "./prometheus.yml:/etc/prometheus/prometheus.yml:ro",
                "./rules:/etc/prometheus/rules:ro",
                "./targets:/etc/prometheus/targets:ro",
                "prometheus_data:/prometheus",
            ],
            "ports": ["127.0.0.1:9090:9090"],
            "networks": ["default", MONITORING],
            **common,
        },
        f"{app}_alertmanager": {
            "image": ALERTMANAGER,
            # Written by `python -m alerts render --from`, with the receivers whose secrets are set.
            "command": ["--config.file=/etc/alertmanager/alertmanager.yml", "--storage.path=/alertmanager"],
            "volumes": [
                "./alertmanager.rendered.yml:/etc/alertmanager/alertmanager.yml:ro",
                "./templates:/etc/alertmanager/templates:ro",
                "alertmanager_data:/alertmanager",
            ],
            "ports": ["127.0.0.1:9093:9093"],
            "networks": [MONITORING],
            **common,
        },
        f"{app}_grafana": {
            "image": GRAFANA,
            "environment": {
                "PROMETHEUS_URL": f"http://{app}_prometheus:9090",
                "ALERTMANAGER_URL": f"http://{app}_alertmanager:9093",
            },
            "volumes": [
                "./provisioning:/etc/grafana/provisioning:ro",
                "./dashboards:/etc/grafana/dashboards:ro",
                "grafana_data:/var/lib/grafana",
            ],
            "ports": ["127.0.0.1:3000:3000"],
            "networks": [MONITORING],
            **common,
        },
    }


# systemd


def _systemd(app: str, sidecars: list[str]) -> Iterator[tuple[str, str]]:
    for part in sidecars:
        unit, name = UNITS[part], _service(part, app, "systemd")
        text = (ROOT / "deploy" / "systemd" / f"{unit}.service").read_text(encoding="utf-8")
        file = {"celery": "exporter", "backup": "backup"}[part]
        text = text.replace(f"/etc/ops/{file}.env", f"/etc/ops/{name}.env")
        text = text.replace("/var/lib/ops-backup", f"/var/lib/{name}")
        yield f"systemd/{name}.service", text.replace("StateDirectory=ops-backup", f"StateDirectory={name}")


# Kubernetes


def _kubernetes(app: str, sidecars: list[str]) -> Iterator[tuple[str, str]]:
    names = [_service(part, app, "kubernetes") for part in sidecars]
    for part in sidecars:
        yield f"kubernetes/{SIDECARS[part]}.yaml", _documents(_objects(part, app))
    base = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"{SIDECARS[part]}.yaml" for part in sidecars],
        "secretGenerator": [
            {"name": name, "envs": [f"env/{SIDECARS[part]}.env"]}
            for name, part in zip(names, sidecars, strict=True)
        ],
        # Where your registry keeps the images.
        "images": [{"name": IMAGES[part], "newTag": "latest"} for part in sidecars],
    }
    yield "kubernetes/kustomization.yaml", _yaml(base)
    yield "kubernetes/operator/service-monitor.yaml", _yaml(_service_monitor(app))
    operator = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["service-monitor.yaml", "prometheus-rules.yaml"],
    }
    yield "kubernetes/operator/kustomization.yaml", _yaml(operator)


def rules_object(app: str, groups: list[Json]) -> str:
    """The rules for the Prometheus operator."""
    return _yaml(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": f"{app}-alerts", "labels": {"release": "kube-prometheus-stack"}},
            "spec": {"groups": groups},
        }
    )


def _objects(part: str, app: str) -> list[Json]:
    name, port = _service(part, app, "kubernetes"), PORTS[part]
    labels = {"app": name}
    claim: Json = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        # Space for a restored database, and for backups while the store cannot be reached.
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "20Gi"}}},
    }
    workload: Json = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            # A second one would count every task again, or find the lock of the first.
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": _pod(part, name, port)},
        },
    }
    service: Json = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": {**labels, "ops/job": part}},
        "spec": {"selector": labels, "ports": [{"name": "metrics", "port": port, "targetPort": "metrics"}]},
    }
    return [workload, service, *([claim] if part == "backup" else [])]


def _pod(part: str, name: str, port: int) -> Json:
    user = USERS[part]
    probe = {"httpGet": {"path": "/healthz", "port": "metrics"}}
    volumes: list[Json] = [{"name": "tmp", "emptyDir": {}}]
    mounts: list[Json] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 - in the container
    limits = {"cpu": "500m", "memory": "256Mi"}
    if part == "backup":
        volumes.append({"name": "work", "persistentVolumeClaim": {"claimName": name}})
        mounts.append({"name": "work", "mountPath": "/var/lib/backup"})
        limits = {"cpu": "2", "memory": "2Gi"}
    return {
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": user,
            "runAsGroup": user,
            "fsGroup": user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": SIDECARS[part],
                "image": IMAGES[part],
                "args": ["serve"],
                "envFrom": [{"secretRef": {"name": name}}],
                "ports": [{"name": "metrics", "containerPort": port}],
                "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": limits},
                "readinessProbe": {**probe, "periodSeconds": 10},
                "livenessProbe": {**probe, "periodSeconds": 20, "failureThreshold": 5},
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": mounts,
            }
        ],
        "volumes": volumes,
    }


def _service_monitor(app: str) -> Json:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": {"name": f"{app}-sidecars", "labels": {"release": "kube-prometheus-stack"}},
        "spec": {
            "jobLabel": "ops/job",
            "selector": {
                "matchExpressions": [{"key": "ops/job", "operator": "In", "values": list(SIDECARS)}]
            },
            "endpoints": [
                {
                    "port": "metrics",
                    "interval": "15s",
                    "relabelings": [{"targetLabel": "environment", "replacement": "production"}],
                }
            ],
        },
    }


def _documents(objects: list[Json]) -> str:
    return "---\n".join(_yaml(each) for each in objects)


class _Dumper(yaml.SafeDumper):
    """Without anchors: several services have the same lists."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the base class's name
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _yaml(document: Any) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
