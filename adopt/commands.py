"""Translates the commands on the alert pages for the stack that runs the project: one table for each stack. Pure."""

import re
from collections.abc import Callable

STACKS = ("compose", "systemd", "kubernetes")
_COMPOSE = re.compile(
    # A command that names a service needs no profile.
    r"docker compose -f docker-compose\.prod\.yml(?: --profile \w+)? (?P<verb>exec(?: -T)?|logs|restart|stop|start|up -d|ps(?: -a)?|run --rm|cp|unpause|rm -sf|kill -s \w+)"
    r"(?P<options>(?: --?[a-z][\w-]*(?:[ =][0-9]+[a-z]*)?)*)(?: posthub_(?P<service>\w+))?"
)
# Outside containers, the commands have the names of the installed programs.
PROGRAMS = {"backup": "backup", "exporters": "exporter", "alerts": "alerts", "dashboards": "dashboards"}
_INSTALLED = re.compile(rf"python3? -m ({'|'.join(PROGRAMS)})\b")
_SIDECAR = re.compile(r"-(backup|backup-wal|celery-exporter)$")
Form = Callable[[str, str], str]


def _with_settings(service: str, _: str) -> str:
    """Prefix of a command that needs a sidecar's settings; commands of other services need none."""
    return f"set -a; . /etc/ops/{service}.env;" if _SIDECAR.search(service) else "env"


# Verb → the command of each stack, from a service and the options.
TABLE: dict[str, dict[str, Form]] = {
    "systemd": {
        "exec": _with_settings,
        "logs": lambda service, _: f"journalctl -u {service}",
        "restart": lambda service, _: f"systemctl restart {service}",
        "stop": lambda service, _: f"systemctl stop {service}",
        "start": lambda service, _: f"systemctl start {service}",
        "up -d": lambda service, _: f"systemctl restart {service}",
        "ps": lambda service, _: f"systemctl status {service}",
        "run --rm": _with_settings,
        "cp": lambda service, _: f"cp -a  # on the host of {service}:",
        "unpause": lambda service, _: f"systemctl thaw {service}",
        "rm -sf": lambda service, _: f"systemctl stop {service}",
        "kill": lambda service, _: f"systemctl kill {service}",
    },
    "kubernetes": {
        "exec": lambda service, _: f"kubectl exec deploy/{service} --",
        "logs": lambda service, _: f"kubectl logs deploy/{service}",
        "restart": lambda service, _: f"kubectl rollout restart deploy/{service}",
        "stop": lambda service, _: f"kubectl scale --replicas=0 deploy/{service}",
        "start": lambda service, _: f"kubectl scale --replicas=1 deploy/{service}",
        "up -d": lambda service, _: f"kubectl rollout restart deploy/{service}",
        "ps": lambda service, _: f"kubectl get pods -l app={service}",
        "run --rm": lambda service, _: f"kubectl exec deploy/{service} --",
        "cp": lambda service, _: f"kubectl cp deploy/{service}",
        "unpause": lambda service, _: f"kubectl delete pod -l app={service}",
        "rm -sf": lambda service, _: f"kubectl delete pod -l app={service}",
        "kill": lambda service, _: f"kubectl exec deploy/{service} -- kill 1",
    },
}


def for_stack(text: str, stack: str, app: str) -> str:
    """Rewrite a page with the commands of a stack.

    Args:
        stack: one of :data:`STACKS`.
        app: the project's name, the prefix of its services' names.
    """

    def written(found: re.Match[str]) -> str:
        verb, options, service = found["verb"], found["options"], found["service"]
        if stack == "compose":
            return f"docker compose {verb}{options}{f' {app}_{service}' if service else ''}"
        named = f"{app}-{service.replace('_', '-')}" if service else f"{app}-api"
        word = "kill" if verb.startswith("kill") else verb.removesuffix(" -T").removesuffix(" -a")
        return TABLE[stack][word](named, options)

    # Only our production has a separate role for the server's owner.
    text = text.replace("-U posthub_admin", "-U posthub")
    text = _COMPOSE.sub(written, text)
    return _INSTALLED.sub(lambda found: f"ops-{PROGRAMS[found[1]]}", text) if stack == "systemd" else text
