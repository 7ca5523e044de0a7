"""The text of every file that is written, from the files of this project. Pure: nothing is written here."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from adopt.commands import for_stack
from adopt.deploy import deployment, rules_object
from adopt.parts import BASE, Used, absent_jobs
from sidecar.grid import rearranged

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parent.parent
# Jobs whose absence has a separate alert.
ESSENTIAL = ("django", "celery", "backup", *BASE)


@dataclass(frozen=True)
class Project:
    """The project to write files for.

    Attributes:
        app: its name, of lower-case letters, digits and dashes.
        grafana, runbooks: addresses for the links in notifications.
        stack: how it runs: compose, systemd or kubernetes.
    """

    app: str
    used: Used
    grafana: str
    runbooks: str
    stack: str = "compose"
    environment: str = "production"
    alertmanager: str = "localhost:9093"
    prometheus: str = "localhost:9090"

    @property
    def name(self) -> str:
        """The name as shown to people."""
        return self.app.replace("-", " ").title()


def files(project: Project) -> dict[str, str]:
    """Every file by its path."""
    found = {
        "prometheus.yml": _yaml(_prometheus(project)),
        **{f"targets/{job}.yml": _yaml(_target(project, job)) for job in _jobs(project)},
        **dict(_rules(project)),
        "alertmanager.yml": _read("alerts/alertmanager.yml"),
        "templates/messages.tmpl": _read("alerts/templates/posthub.tmpl"),
        **dict(_dashboards(project)),
        "provisioning/dashboards/dashboards.yml": _read("dashboards/provisioning/dashboards/posthub.yml"),
        "provisioning/datasources/prometheus.yml": _read(
            "dashboards/provisioning/datasources/prometheus.yml"
        ),
        **dict(_pages(project)),
        **deployment(project.app, project.used.jobs, project.stack),
    }
    if any(path.startswith("kubernetes/") for path in found):
        found["kubernetes/operator/prometheus-rules.yaml"] = rules_object(project.app, _groups(found))
    return {path: _renamed(text, project) for path, text in found.items()}


def _groups(found: Mapping[str, str]) -> list[Json]:
    """The groups of all rule files."""
    texts = [text for path, text in sorted(found.items()) if path.startswith("rules/")]
    return [group for text in texts for group in yaml.safe_load(text)["groups"]]


def _jobs(project: Project) -> list[str]:
    return [*BASE, *(job for job in project.used.jobs if job not in BASE)]


def _prometheus(project: Project) -> Json:
    document: Json = yaml.safe_load(_read("alerts/prometheus.yml"))
    document["global"]["external_labels"] = {
        "environment": project.environment,
        "grafana": project.grafana,
        "runbooks": project.runbooks,
    }
    document["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [project.alertmanager]}]}]
    wanted = _jobs(project)
    # The adopted project has none of our passwords.
    document["scrape_configs"] = [
        {key: value for key, value in job.items() if key != "basic_auth"}
        for job in document["scrape_configs"]
        if job["job_name"] in wanted
    ]
    return document


def _target(project: Project, job: str) -> list[Json]:
    address = {"prometheus": project.prometheus, "alertmanager": project.alertmanager, **project.used.jobs}[
        job
    ]
    labels = {"environment": project.environment}
    if job not in BASE:
        labels["host"] = project.app
    if job == "blackbox":
        labels |= {"probe": "api", "__param_module": "http_2xx", "__exporter": "localhost:9115"}
    return [{"targets": [address], "labels": labels}]


def _rules(project: Project) -> Iterator[tuple[str, str]]:
    for name in sorted(project.used.rule_files):
        document: Json = yaml.safe_load(_read(f"alerts/rules/{name}.yml"))
        for group in document["groups"]:
            group["rules"] = [
                _adapted(rule, project) for rule in group["rules"] if project.used.has(rule["expr"])
            ]
        document["groups"] = [group for group in document["groups"] if group["rules"]]
        if document["groups"]:
            yield f"rules/{name}.yml", _yaml(document)


def _adapted(rule: Json, project: Project) -> Json:
    if rule.get("alert") != "JobMissing":
        return rule
    discovered = str(rule["expr"]).partition("or absent")[0].rstrip()
    essential = [job for job in ESSENTIAL if job in _jobs(project)]
    return {**rule, "expr": f"{discovered}\nor {absent_jobs(essential)}\n"}


def _dashboards(project: Project) -> Iterator[tuple[str, str]]:
    for name in sorted(project.used.boards):
        board: Json = json.loads(_read(f"dashboards/json/posthub-{name}.json"))
        panels = [panel for panel in board["panels"] if _has_data(panel, project.used)]
        board["panels"] = rearranged(panels)
        if any(panel["type"] != "row" for panel in board["panels"]):
            yield f"dashboards/{name}.json", json.dumps(board, indent=2, ensure_ascii=False) + "\n"


def _has_data(panel: Json, used: Used) -> bool:
    queries = [target["expr"] for target in panel.get("targets", ()) if "expr" in target]
    return not queries or any(used.has(expr) for expr in queries)


def _pages(project: Project) -> Iterator[tuple[str, str]]:
    """The page of each alert whose rule is written."""
    alerts = {
        rule["alert"]
        for path, text in _rules(project)
        for group in yaml.safe_load(text)["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    for alert in sorted(alerts):
        page = ROOT / "runbooks" / "alerts" / f"{alert}.md"
        if page.is_file():
            yield (
                f"runbooks/{alert}.md",
                for_stack(page.read_text(encoding="utf-8"), project.stack, project.app),
            )


def _renamed(text: str, project: Project) -> str:
    """The text under the project's name."""
    text = re.sub(r"https://github\.com/posthub/ops/blob/main/runbooks/alerts", project.runbooks, text)
    text = text.replace("PostHub", project.name).replace("posthub_", f"{project.app}_")
    return text.replace("posthub", project.app).replace("POSTHUB", project.app.upper().replace("-", "_"))


def _read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def _yaml(document: Any) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


class _Dumper(yaml.SafeDumper):
    """Dumps multi-line strings as block scalars, as a person would write them."""


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
