"""The Kubernetes manifests: they build, they are valid, and everything they refer to exists."""

import os
import re
import subprocess
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from stack.deploy.cluster import JOB_SECONDS
from stack.deploy.kubernetes import FIRST, MIGRATE, OPTIONAL, OVERLAY, ROLLED
from stack.deploy.manifests import manifests
from stack.paths import ROOT
from stack.ports import HOST
from stack.programs import find
from stack.servers import ObjectStore
from tests.deploy.kubekit import BUILDABLE, K8S, Document, builder, built, plain, pod_specs, secret_files

SCHEMAS = yaml.safe_load((Path(__file__).parent / "schemas" / "operators.yml").read_text(encoding="utf-8"))
KUBERNETES = "1.37"
# Created by hand or by an operator: docs/kubernetes.md.
SECRETS = {
    "posthub-api",
    "posthub-worker",
    "posthub-worker-ai",
    "posthub-beat",
    "posthub-flower",
    "posthub-migrate",
    "posthub-alert-watch",
    "posthub-exporter",
    "posthub-backup",
    "posthub-redis",
    "posthub-postgres-owner",
    "posthub-tls",
    "posthub-postgres-backup",
    "posthub-postgres-exporter",
    "posthub-wal-s3",
    "posthub-operators",
    "posthub-move",
    "posthub-backup-wal",
    "posthub-postgres-wal",
}


def _all(name: str) -> list[Document]:
    if builder() is None:
        pytest.skip(
            "overlays are not built: neither kubectl nor kustomize is on PATH; https://kubernetes.io/docs/tasks/tools "
            "says how to get them (the plain files are tested anyway)"
        )
    return built(name)


@pytest.mark.parametrize("name", BUILDABLE)
def test_it_builds_and_is_valid(name: str) -> None:
    for document in _all(name):
        validate(document)


def test_the_plain_files_are_valid() -> None:
    documents = plain()
    assert len(documents) > 40
    for document in documents:
        validate(document)


def validate(document: Document) -> None:
    """Against Kubernetes' own schema, or our schema of the operator's kind."""
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    key = f"{document['apiVersion']} {document['kind']}"
    if key not in SCHEMAS["kinds"]:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
        return
    spec = {"type": "object", "additionalProperties": False, **SCHEMAS["kinds"][key]}
    schema = {"definitions": SCHEMAS["definitions"], **spec}
    jsonschema.validate(document["spec"], schema)


def test_a_mistake_in_a_custom_resource_is_found() -> None:
    # A copy: the other tests have the same documents.
    scaled = deepcopy(next(document for document in plain() if document["kind"] == "ScaledObject"))
    scaled["spec"]["minReplicas"] = 1
    with pytest.raises(jsonschema.ValidationError, match="minReplicas"):
        validate(scaled)


def test_generated_manifests_are_in_sync() -> None:
    for path, text in manifests().items():
        assert path.read_text(encoding="utf-8") == text, (
            f"{path.name} is out of date: run ./ops deploy manifests"
        )


def test_no_secret_is_in_the_repository() -> None:
    assert not [document for document in plain() if document["kind"] == "Secret"]


def test_secrets_that_are_named_are_documented() -> None:
    named = set(
        re.findall(r"secretName: ([\w-]+)", "".join(p.read_text() for p in (ROOT / "k8s").rglob("*.yaml")))
    )
    assert named <= SECRETS
    pages = (ROOT / "docs" / name for name in ("kubernetes.md", "migration.md"))
    page = "".join(path.read_text(encoding="utf-8") for path in pages)
    loops = re.findall(r"for name in (.+); do\n  kubectl", page)
    made = {f"posthub-{name}" for names in loops for name in names.split()} | {"posthub-tls"}
    made |= set(re.findall(r"-n posthub create secret generic (posthub-[\w-]+) ", page))
    assert made == SECRETS


def test_staff_and_alerts_link_to_the_same_grafana() -> None:
    config = next(one for one in plain() if one["metadata"]["name"] == "posthub-config")
    values = (ROOT / "k8s" / "kube-prometheus-stack.yml").read_text(encoding="utf-8")
    assert re.findall(r"^ +grafana: (https://\S+)", values, re.MULTILINE) == [config["data"]["GRAFANA_URL"]]


# It reads the nodes' log files, which belong to root, and asks the API server for the names of their pods.
READS_THE_NODES = "DaemonSet/posthub-log-shipper"


def test_every_pod_is_hardened() -> None:
    for name, _, spec in pod_specs(plain()):
        ordinary = name != READS_THE_NODES
        assert spec["automountServiceAccountToken"] is (not ordinary), name
        assert spec["securityContext"].get("runAsNonRoot", False) is ordinary, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert container["resources"]["limits"]["memory"], name
            assert container["resources"]["requests"]["cpu"], name
            # Without it, a pod that fills the node's disk takes its neighbours with it.
            assert {"ephemeral-storage"} <= container["resources"]["requests"].keys(), name
            assert {"ephemeral-storage"} <= container["resources"]["limits"].keys(), name


def test_users_are_those_of_the_images() -> None:
    owners = {"posthub/api": 10001, "posthub/celery-exporter": 10002, "posthub/backup": 10003}
    for name, _, spec in pod_specs(plain()):
        for container in spec["containers"]:
            expected = owners.get(container["image"])
            assert expected in (None, spec["securityContext"]["runAsUser"]), name


def test_images_are_pinned_or_ours() -> None:
    for name, _, spec in pod_specs(plain()):
        for container in spec["containers"]:
            assert container["image"].startswith("posthub/") or re.search(r":v?\d", container["image"]), name


def test_the_same_versions_as_in_compose(production: dict[str, Any]) -> None:
    trial = yaml.safe_load((ROOT / "docker-compose.trial.yml").read_text(encoding="utf-8"))
    services = (*production["services"].values(), *trial["services"].values())
    compose = {service["image"] for service in services if "image" in service}
    for name, _, spec in pod_specs(plain()):
        for container in spec["containers"]:
            if not container["image"].startswith("posthub/"):
                assert container["image"] in compose, name


def test_mounts_and_references_exist() -> None:
    configs = {document["metadata"]["name"] for document in plain() if document["kind"] == "ConfigMap"}
    configs |= {"posthub-redis-scripts"}
    for name, _, spec in pod_specs(plain()):
        volumes = {volume["name"] for volume in spec.get("volumes", [])} | {"data"}
        for container in spec["containers"]:
            mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
            assert mounted <= volumes, name
            for source in container.get("envFrom", []):
                assert source["configMapRef"]["name"] in configs, name


def test_services_find_their_pods_by_label_and_port() -> None:
    pods = [(labels, _ports(spec)) for _, labels, spec in pod_specs(plain())]
    for service in (document for document in plain() if document["kind"] == "Service"):
        selector = service["spec"]["selector"]
        found = [ports for labels, ports in pods if selector.items() <= labels.items()]
        assert found, service["metadata"]["name"]
        for port in service["spec"]["ports"]:
            assert port.get("targetPort", port["port"]) in found[0], service["metadata"]["name"]


def _ports(spec: Document) -> set[Any]:
    ports = [port for container in spec["containers"] for port in container.get("ports", [])]
    return {port["name"] for port in ports} | {port["containerPort"] for port in ports}


def test_autoscaled_deployments_set_no_replicas() -> None:
    documents = plain()
    deployments = {d["metadata"]["name"]: d["spec"] for d in documents if d["kind"] == "Deployment"}
    for document in documents:
        if document["kind"] in ("ScaledObject", "HorizontalPodAutoscaler"):
            target = document["spec"]["scaleTargetRef"]["name"]
            assert "replicas" not in deployments[target], f"{target}: each apply would undo the scaling"


def test_beat_never_runs_twice() -> None:
    beat = next(d for d in plain() if d["metadata"]["name"] == "posthub-celery-beat")
    assert beat["spec"]["replicas"] == 1
    assert beat["spec"]["strategy"] == {"type": "Recreate"}


def test_workers_and_keda_use_the_queues_of_the_app() -> None:
    import ast

    tree = ast.parse((ROOT / "app" / "config" / "queues.py").read_text(encoding="utf-8"))
    queues = {
        node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    }
    served = {queue for _, _, spec in pod_specs(plain()) for queue in _queues(spec)}
    assert served == queues
    for document in plain():
        if document["kind"] == "ScaledObject":
            deployment = next(
                s for n, _, s in pod_specs(plain()) if n == f"Deployment/{document['metadata']['name']}"
            )
            for trigger in document["spec"]["triggers"]:
                (named,) = re.findall(r'queue_name=~"([^"]+)"', trigger["metadata"]["query"])
                assert set(named.split("|")) == set(_queues(deployment))


def _queues(spec: Document) -> list[str]:
    command = spec["containers"][0].get("command") or []
    return command[command.index("-Q") + 1].split(",") if "-Q" in command else []


def test_a_worker_has_longer_to_stop_than_a_task_may_take() -> None:
    limit = re.search(r"CELERY_TASK_TIME_LIMIT = (\d+)", (ROOT / "app/config/settings/base.py").read_text())
    assert limit
    for name, _, spec in pod_specs(plain()):
        if "-Q" in (spec["containers"][0].get("command") or []):
            assert spec["terminationGracePeriodSeconds"] > int(limit[1]), name


def test_metrics_are_not_reachable_from_outside() -> None:
    paths = {
        path["path"]
        for document in plain()
        if document["kind"] == "Ingress"
        for rule in document["spec"]["rules"]
        if rule["host"].startswith("api.")
        for path in rule["http"]["paths"]
    }
    assert "/" not in paths
    assert not any(path.startswith("/metrics") for path in paths)


def test_every_job_label_is_one_of_prometheus() -> None:
    jobs = {
        c["job_name"] for c in yaml.safe_load((ROOT / "alerts/prometheus.yml").read_text())["scrape_configs"]
    }
    labels = {
        d["metadata"].get("labels", {}).get("posthub.work/job") for d in plain() if d["kind"] == "Service"
    }
    assert labels - {None} <= jobs
    assert {"django", "celery", "backup", "redis", "postgres"} <= labels


def test_what_the_workers_count_is_scraped() -> None:
    """Publishing, AI providers and their cost: rules and dashboards read what only the workers know."""
    (service,) = (
        one
        for one in _of_kind("Service")
        if one["metadata"].get("labels", {}).get("posthub.work/job") == "workers"
    )
    (port,) = service["spec"]["ports"]
    workers = []
    for name, labels, spec in pod_specs(plain()):
        if service["spec"]["selector"].items() <= labels.items():
            (container,) = spec["containers"]
            assert {"name": "WORKER_METRICS_PORT", "value": str(port["port"])} in container["env"], name
            workers.append(name)
    assert sorted(workers) == ["Deployment/posthub-celery-worker", "Deployment/posthub-celery-worker-ai"]
    policy = next(one for one in _of_kind("NetworkPolicy") if one["metadata"]["name"] == "from-prometheus")
    assert {"port": port["port"]} in policy["spec"]["ingress"][0]["ports"]


def test_rules_find_the_jobs_of_the_chart() -> None:
    """JobMissing would fire forever with the chart's own names."""
    values = yaml.safe_load((ROOT / "k8s" / "kube-prometheus-stack.yml").read_text(encoding="utf-8"))
    for job in ("prometheus", "alertmanager"):
        assert {"targetLabel": "job", "replacement": job} in values[job]["serviceMonitor"]["relabelings"]


def test_alertmanagers_templates_are_where_the_operator_mounts_them() -> None:
    from alerts.receivers import ReceiverSettings
    from alerts.render import configuration

    (templates,) = configuration(ReceiverSettings.load({}))["templates"]
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    (old, new) = re.findall(r"sed 's#(.+)#(.+)#' alertmanager.yml", page)[0]
    assert re.sub(old, new, templates) == "/etc/alertmanager/config/*.tmpl"


def test_the_proof_job_verifies_every_database() -> None:
    """There are two databases, PostgreSQL and Redis; `latest` alone would be refused."""
    commands = {
        n: s["containers"][0].get("args") for n, _, s in pod_specs(plain()) if n.startswith("CronJob/")
    }
    assert commands["CronJob/posthub-backup-verify"] == ["verify", "--all-unverified"]


def test_a_rollout_waits_for_all_our_deployments() -> None:
    ours = {
        name.partition("/")[2]
        for name, _, spec in pod_specs(plain())
        if name.startswith("Deployment/") and spec["containers"][0]["image"].startswith("posthub/")
    }
    # The log store has another namespace, and nothing waits for it.
    assert {*ROLLED, *OPTIONAL} == ours - {"posthub-log-gateway"}


@pytest.mark.parametrize("name", ["overlays/production", "overlays/staging"])
def test_an_overlay_chooses_one_ingress_with_limits(name: str) -> None:
    ingresses = {d["metadata"]["name"]: d for d in _all(name) if d["kind"] == "Ingress"}
    annotations = ingresses["posthub-ingress"]["metadata"]["annotations"]
    chosen = ingresses["posthub-ingress"]["spec"]["ingressClassName"]
    assert any(key.startswith(chosen) for key in annotations)
    assert "limit-rpm" in str(annotations) or "rate-limit" in str(annotations)
    assert "auth-secret" in str(ingresses["posthub-flower"]) or "operators" in str(
        ingresses["posthub-flower"]
    )


@pytest.mark.parametrize("name", ["overlays/production", "overlays/staging"])
def test_the_admin_and_flower_require_the_operators_password(name: str) -> None:
    found = {
        path["path"]: ingress["metadata"]["annotations"]
        for ingress in _all(name)
        if ingress["kind"] == "Ingress"
        for rule in ingress["spec"]["rules"]
        for path in rule["http"]["paths"]
    }
    for path in ("/admin/", "/flower/"):
        assert "posthub-operators" in str(found[path]), path


def test_a_rollout_waits_as_long_as_its_jobs_may_take() -> None:
    specs = [d["spec"] for d in plain() if d["kind"] == "Job" and d["metadata"]["name"] == MIGRATE]
    specs += [d["spec"]["jobTemplate"]["spec"] for d in plain() if d["kind"] == "CronJob"]
    assert max(spec["activeDeadlineSeconds"] for spec in specs) < JOB_SECONDS


@pytest.mark.parametrize("name", ["production", "staging", "trial"])
def test_the_namespace_is_labelled_with_its_overlay(name: str) -> None:
    (namespace,) = (d for d in _all(f"overlays/{name}") if d["kind"] == "Namespace")
    assert namespace["metadata"]["labels"][OVERLAY] == name


def test_staging_does_not_touch_production() -> None:
    text = yaml.safe_dump_all(_all("overlays/staging"))
    without_rules = yaml.safe_dump_all(
        d for d in _all("overlays/staging") if d["kind"] not in ("PrometheusRule", "ConfigMap")
    )
    assert "s3://posthub-backups/kubernetes" not in text
    assert "s3://posthub-wal/kubernetes" not in text
    assert not re.findall(r"(?<!staging\.)\b(?:host: |https://)(?:api\.)?posthub\.work", without_rules)


def _of_kind(kind: str) -> list[Document]:
    found = [document for document in plain() if document["kind"] == kind]
    assert found
    return found


def test_a_pod_that_ends_soon_after_its_start_is_never_available() -> None:
    for deployment in _of_kind("Deployment"):
        name, spec = deployment["metadata"]["name"], deployment["spec"]
        assert spec.get("minReadySeconds", 0) >= 20, name
        probed = [
            {"readinessProbe", "startupProbe"} & set(container)
            for container in spec["template"]["spec"]["containers"]
        ]
        assert all(probed), name


def test_finished_jobs_keep_no_volume() -> None:
    """A generic ephemeral volume is deleted with its pod, and a pod only with its job."""
    for job in _of_kind("CronJob"):
        spec = job["spec"]
        assert spec["jobTemplate"]["spec"]["ttlSecondsAfterFinished"] <= 600, job["metadata"]["name"]


def test_jobs_run_at_local_times_one_at_a_time_and_catch_up_on_the_same_day() -> None:
    """Two verifications would share a disk that has room for one; without a deadline, a missed job waits for the next day."""
    jobs = {job["metadata"]["name"]: job["spec"] for job in _of_kind("CronJob")}
    assert set(jobs) >= {"posthub-backup", "posthub-backup-verify"}
    for name, spec in jobs.items():
        assert spec["concurrencyPolicy"] == "Forbid", name
        assert spec["timeZone"] == "Europe/Prague", name
        assert 3600 <= spec["startingDeadlineSeconds"] < 86_400, name
        work = spec["jobTemplate"]["spec"]
        assert 0 < work["backoffLimit"] < 6, name
        # It ends before the next one is due.
        assert work["activeDeadlineSeconds"] < 86_400, name
        assert work["template"]["spec"]["restartPolicy"] == "Never", name


def test_the_service_takes_only_a_second_backup_each_day() -> None:
    """The first one is the job's: a backup at each start of the pod would be one at each rollout."""
    service = next(one for one in _of_kind("Deployment") if one["metadata"]["name"] == "posthub-backup")
    (container,) = service["spec"]["template"]["spec"]["containers"]
    env = {each["name"]: each["value"] for each in container["env"]}
    assert env["BACKUP_CATCH_UP"] == "false"
    job = next(one["spec"] for one in _of_kind("CronJob") if one["metadata"]["name"] == "posthub-backup")
    (first, second) = (int(text.split()[1]) for text in (job["schedule"], env["BACKUP_SCHEDULE"]))
    assert abs(second - first) >= 6


def test_a_node_can_always_be_drained() -> None:
    for budget in _of_kind("PodDisruptionBudget"):
        name, spec = budget["metadata"]["name"], budget["spec"]
        # Pods that crash do not block it. Redis's may have the only copy of what was sent.
        policy = "IfHealthyBudget" if name == "posthub-redis" else "AlwaysAllow"
        assert spec["unhealthyPodEvictionPolicy"] == policy, name
        assert spec["maxUnavailable"] == 1, f"{name}: minAvailable blocks the drain while there is one pod"


# The last one is where clouds tell a machine its credentials.
PRIVATE = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"}


def test_only_pods_that_need_it_reach_the_internet() -> None:
    """Every egress rule names its targets; the database reaches only its bucket and the Kubernetes API."""
    public: dict[str, set[int]] = {}
    for policy in _of_kind("NetworkPolicy"):
        for rule in policy["spec"].get("egress", []):
            assert rule.get("to"), f"{policy['metadata']['name']}: everywhere"
            blocks = [one["ipBlock"] for one in rule["to"] if "ipBlock" in one]
            if any(block["cidr"] == "0.0.0.0/0" for block in blocks):
                assert all(set(block["except"]) >= PRIVATE for block in blocks), policy["metadata"]["name"]
                public[policy["metadata"]["name"]] = {port["port"] for port in rule["ports"]}
    assert public == {"to-the-internet": {443}, "postgres-to-the-bucket": {443}}
    uses = {
        labels["app"]: labels.get("posthub.work/uses")
        for _, labels, _ in pod_specs(plain())
        if "app" in labels
    }
    outside = {app for app, use in uses.items() if use in ("data-and-internet", "internet")}
    workers = {"posthub-celery-worker", "posthub-celery-worker-ai"}
    backups = {"posthub-backup", "posthub-backup-job", "posthub-backup-wal", "posthub-move"}
    assert outside == {"posthub-api", "posthub-alert-watch", *workers, *backups}


def _policy(name: str) -> Document:
    """A policy of the app's namespace; that of the logs has policies with the same names."""
    text = (K8S / "base" / "common" / "network-policies.yaml").read_text(encoding="utf-8")
    (spec,) = (one["spec"] for one in yaml.safe_load_all(text) if one["metadata"]["name"] == name)
    assert isinstance(spec, dict)
    return spec


def _chosen(selector: Document) -> set[str]:
    """The values of a selector's only expression."""
    (expression,) = selector["matchExpressions"]
    assert expression["operator"] == "In"
    return set(expression["values"])


def test_nothing_is_reachable_by_default() -> None:
    assert _policy("nothing-by-default") == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_the_ingress_controller_reaches_only_web_pages() -> None:
    policy = _policy("from-the-ingress")
    assert _chosen(policy["podSelector"]) == {"posthub-api", "posthub-frontend", "posthub-flower"}
    assert [rule["ports"] for rule in policy["ingress"]] == [[{"port": "http"}]]


def test_prometheus_reaches_every_port_with_metrics_and_no_other() -> None:
    scraped = {
        container_port["containerPort"]
        for _, labels, spec in pod_specs(plain())
        for container in spec["containers"]
        for container_port in container.get("ports", [])
        if container_port["name"] == "metrics" and not labels.get("app", "").startswith("posthub-log")
    }
    (rule,) = _policy("from-prometheus")["ingress"]
    # The API serves its metrics next to its pages, and the watch of alerts is in another namespace.
    assert {port["port"] for port in rule["ports"]} == (scraped | {8000}) - {9810}


def test_only_pods_that_use_them_reach_the_database_and_redis() -> None:
    for name, policy, users in (
        ("postgres", "to-the-database", {"data", "data-and-internet", "postgres"}),
        ("redis", "to-redis", {"broker", "data", "data-and-internet"}),
    ):
        assert _chosen(_policy(policy)["podSelector"]) == users
        admitted = [
            _chosen(one["podSelector"])
            for rule in _policy(name)["ingress"]
            for one in rule["from"]
            if "matchExpressions" in one.get("podSelector", {})
        ]
        assert admitted == [users], name


TWO_EXPORTERS = """
rule_files: [keda.yml]
evaluation_interval: 1m
tests:
  - input_series:
      - {series: 'celery_queue_length{instance="a", queue_name="default"}', values: "40"}
      - {series: 'celery_queue_length{instance="b", queue_name="default"}', values: "40"}
      - {series: 'celery_queue_length{instance="a", queue_name="quick"}', values: "2"}
      - {series: 'celery_queue_length{instance="a", queue_name="ai_jobs"}', values: "7"}
      - {series: 'celery_queue_oldest_message_age_seconds{instance="a", queue_name="default"}', values: "5"}
      - {series: 'celery_queue_oldest_message_age_seconds{instance="a", queue_name="quick"}', values: "9"}
    promql_expr_test:
      - {expr: 'posthub_celery_worker:queue_length', exp_samples: [{labels: 'posthub_celery_worker:queue_length', value: 42}]}
      - {expr: 'posthub_celery_worker:oldest_message_age', exp_samples: [{labels: 'posthub_celery_worker:oldest_message_age', value: 9}]}
      - {expr: 'posthub_celery_worker_ai:queue_length', exp_samples: [{labels: 'posthub_celery_worker_ai:queue_length', value: 7}]}
      # The age is not known on every broker. It must not keep the length from being used.
      - {expr: 'posthub_celery_worker_ai:oldest_message_age', exp_samples: [{labels: 'posthub_celery_worker_ai:oldest_message_age', value: 0}]}
  - input_series:
      - {series: 'celery_queue_oldest_message_age_seconds{instance="a", queue_name="ai_jobs"}', values: "3"}
      - {series: 'celery_queue_oldest_message_age_seconds{instance="a", queue_name="ai_priority"}', values: "8"}
    promql_expr_test:
      - {expr: 'posthub_celery_worker:oldest_message_age', exp_samples: [{labels: 'posthub_celery_worker:oldest_message_age', value: 0}]}
      - {expr: 'posthub_celery_worker_ai:oldest_message_age', exp_samples: [{labels: 'posthub_celery_worker_ai:oldest_message_age', value: 8}]}
"""


def test_keda_counts_each_task_once(tmp_path: Path) -> None:
    """Also with two exporters, as while one is replaced."""
    rules = [
        {
            "record": f"{scaled['metadata']['name']}:{trigger['name']}".replace("-", "_"),
            "expr": trigger["metadata"]["query"],
        }
        for scaled in _of_kind("ScaledObject")
        for trigger in scaled["spec"]["triggers"]
    ]
    groups = {"groups": [{"name": "keda", "rules": rules}]}
    (tmp_path / "keda.yml").write_text(yaml.safe_dump(groups), encoding="utf-8")
    (tmp_path / "tests.yml").write_text(TWO_EXPORTERS, encoding="utf-8")
    done = subprocess.run(
        [str(find("promtool")), "test", "rules", "tests.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_keda_compares_an_age_with_its_threshold_and_never_goes_below_the_minimum() -> None:
    """By default, KEDA divides a value by the number of pods: an old message would count less, the more pods there are."""
    for scaled in _of_kind("ScaledObject"):
        name, spec = scaled["metadata"]["name"], scaled["spec"]
        kinds = {trigger["name"]: trigger.get("metricType", "AverageValue") for trigger in spec["triggers"]}
        assert kinds == {"queue-length": "AverageValue", "oldest-message-age": "Value"}, name
        assert spec["minReplicaCount"] <= spec["fallback"]["replicas"] <= spec["maxReplicaCount"], name


def test_a_rollout_of_what_customers_reach_stops_no_pod_before_the_next_one_is_ready() -> None:
    for deployment in _of_kind("Deployment"):
        if deployment["metadata"]["name"] in ("posthub-api", "posthub-frontend"):
            assert deployment["spec"]["strategy"] == {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


def test_a_database_that_does_not_answer_kills_no_pod() -> None:
    """The health page needs the database and Redis. Killing every pod of the API would not bring them back."""
    for name, _, spec in pod_specs(plain()):
        for container in spec["containers"]:
            probe = container.get("livenessProbe", {}).get("httpGet", {})
            if name == "Deployment/posthub-api":
                assert probe["path"] == "/metrics"
            assert "health/" not in probe.get("path", ""), name


def test_only_one_exporter_counts_and_its_series_do_not_name_pods() -> None:
    exporter = next(
        one for one in _of_kind("Deployment") if one["metadata"]["name"] == "posthub-celery-exporter"
    )
    assert (exporter["spec"]["replicas"], exporter["spec"]["strategy"]) == (1, {"type": "Recreate"})
    (container,) = exporter["spec"]["template"]["spec"]["containers"]
    values = {one["name"]: one.get("value") for one in container["env"]}
    assert values["CELERY_EXPORTER_WORKER_LABEL"] == values["CELERY_EXPORTER_CLIENT_LABEL"] == "generic"
    served = {queue for _, _, spec in pod_specs(plain()) for queue in _queues(spec)}
    assert set(str(values["CELERY_EXPORTER_QUEUES"]).split(",")) == served


def test_mounted_secrets_are_read_by_the_owner_and_its_group_only() -> None:
    for name, _, spec in pod_specs(plain()):
        for volume in spec.get("volumes", []):
            if "secret" in volume:
                assert volume["secret"].get("defaultMode", 0o644) & 0o227 == 0, (name, volume["name"])


def test_the_primary_does_not_wait_for_workers_to_disconnect() -> None:
    (cluster,) = _of_kind("Cluster")
    assert cluster["spec"]["smartShutdownTimeout"] <= 15


def test_a_new_cluster_has_what_the_data_tier_refers_to() -> None:
    """The rollout waits for the data tier before it applies the rest: a pod without its priority class is never created."""
    data = [one for one in plain() if one["kind"] in ("Cluster", "StatefulSet")]
    named = {one for document in data for one in _values(document, "priorityClassName")}
    assert named <= {one["metadata"]["name"] for one in _of_kind("PriorityClass")}
    assert {"PriorityClass", "ServiceAccount", "ConfigMap", "Service", "Namespace"} <= set(FIRST)


def _values(found: Any, key: str) -> Iterator[str]:
    """The values of a field, anywhere in an object."""
    if isinstance(found, dict):
        yield from (value for name, value in found.items() if name == key)
    for value in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
        yield from _values(value, key)


def test_what_customers_reach_stops_after_the_proxies_have_left_it() -> None:
    """A proxy that is busy sends requests for some seconds to a pod that was deleted."""
    for name, _, spec in pod_specs(plain()):
        if name in ("Deployment/posthub-api", "Deployment/posthub-frontend"):
            (container,) = spec["containers"]
            program, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
            assert program == "sleep", name
            assert int(seconds) >= 15, name
            # Then its requests end.
            assert spec["terminationGracePeriodSeconds"] >= int(seconds) + 30, name


def test_the_master_of_redis_hands_over_before_it_stops() -> None:
    """Otherwise nothing can be sent for the ten seconds that the Sentinels need to notice."""
    redis = next(one for one in _of_kind("StatefulSet") if one["metadata"]["name"] == "posthub-redis")
    server = next(one for one in redis["spec"]["template"]["spec"]["containers"] if one["name"] == "redis")
    assert server["lifecycle"]["preStop"]["exec"]["command"] == ["sh", "/scripts/handover.sh"]
    # The budget counts ready pods: the next one is stopped only when a replica has the data and the Sentinels act.
    ready = {
        one["name"]: one["readinessProbe"]["exec"]["command"][-1]
        for one in redis["spec"]["template"]["spec"]["containers"]
        if "readinessProbe" in one
    }
    assert "master_link_status:up" in ready["redis"]
    assert "sentinel_tilt:0" in ready["sentinel"]
    kustomization = yaml.safe_load((K8S / "base" / "redis" / "kustomization.yaml").read_text())
    (scripts,) = (one["files"] for one in kustomization["configMapGenerator"])
    assert set(scripts) == {path.name for path in (K8S / "base" / "redis").glob("*.sh")}


def test_neither_a_lost_packet_nor_a_probe_stops_sentinel() -> None:
    """Sentinel answers nothing while it resolves a name, and does nothing for 30 s after more than two seconds of that."""
    redis = next(one for one in _of_kind("StatefulSet") if one["metadata"]["name"] == "posthub-redis")
    spec = redis["spec"]["template"]["spec"]
    options = {one["name"]: int(one["value"]) for one in spec["dnsConfig"]["options"]}
    assert options["timeout"] * options["attempts"] <= 2
    # Both programs wait for DNS before they start, for which they must not be killed.
    for container in spec["containers"]:
        if "livenessProbe" in container:
            probe = container["startupProbe"]
            assert probe["periodSeconds"] * probe["failureThreshold"] >= 300, container["name"]
    # A limit also counts the processor time of the probes, and Sentinel waits until its share of 100 ms is there again.
    limits = {one["name"]: one["resources"]["limits"]["cpu"] for one in spec["containers"]}
    assert int(limits["sentinel"].removesuffix("m")) >= 500


def test_certificates_can_be_issued_over_http() -> None:
    policy = next(p for p in _of_kind("NetworkPolicy") if p["metadata"]["name"] == "acme-challenges")
    assert policy["spec"]["podSelector"]["matchLabels"] == {"acme.cert-manager.io/http01-solver": "true"}
    assert policy["spec"]["ingress"][0]["ports"] == [{"port": 8089}]


def production_with(component: str, folder: Path) -> dict[tuple[str, str], Document]:
    """Production's objects with one more component, valid, by kind and name."""
    if builder() is None:
        pytest.skip(
            "neither kubectl nor kustomize is on PATH; https://kubernetes.io/docs/tasks/tools says how to get them"
        )
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(K8S / "overlays" / "production", folder.resolve())],
        "components": [os.path.relpath(K8S / "components" / component, folder.resolve())],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    found = {(d["kind"], d["metadata"]["name"]): d for d in built(str(folder))}
    for document in found.values():
        validate(document)
    return found


def test_the_wal_stream_is_a_component(tmp_path: Path) -> None:
    """It adds a stream without a volume, its role and the limit of what the server keeps for it."""
    found = production_with("pitr", tmp_path)
    cluster = found["Cluster", "posthub-postgres"]["spec"]
    assert cluster["postgresql"]["parameters"]["max_slot_wal_keep_size"] == "4GB"
    (role,) = (each for each in cluster["managed"]["roles"] if each.get("replication"))
    assert role["name"] == "posthub_wal"
    config = found["ConfigMap", "posthub-backup-files"]["data"]
    assert config["BACKUP_SERVERS_FILE"] == "/run/secrets/backup/servers"
    pod = found["Deployment", "posthub-backup-wal"]["spec"]["template"]["spec"]
    assert not any("persistentVolumeClaim" in volume for volume in pod["volumes"])
    (container,) = pod["containers"]
    # Variables that its secret lacks are not expected there.
    files = {path.rpartition("/")[2] for path in secret_files(container, list(found.values()))}
    stores = {
        f"{store}s3_{key}" for store in ("", "offsite_") for key in ("access_key_id", "secret_access_key")
    }
    assert files == {"servers", "manifest_key", *stores}
    assert ("Deployment", "posthub-backup-wal") not in {
        (d["kind"], d["metadata"]["name"]) for d in _all("overlays/production")
    }


def test_the_log_store_is_a_component(tmp_path: Path, production: dict[str, Any]) -> None:
    """The versions and the limits of compose's; only the shipper may read the nodes, and it may change nothing."""
    found = production_with("logs", tmp_path)
    shipper = found["DaemonSet", "posthub-log-shipper"]["spec"]["template"]["spec"]
    (container,) = shipper["containers"]
    mounts = {mount["name"]: mount.get("readOnly", False) for mount in container["volumeMounts"]}
    assert {name for name, read_only in mounts.items() if not read_only} == {"state", "tmp"}
    (rule,) = found["ClusterRole", "posthub-log-shipper"]["rules"]
    assert set(rule["verbs"]) == {"get", "list", "watch"}
    assert set(rule["resources"]) == {"pods", "namespaces", "nodes"}
    (gateway,) = found["Deployment", "posthub-log-gateway"]["spec"]["template"]["spec"]["containers"]
    assert gateway["image"] == "posthub/backup"
    (store,) = found["StatefulSet", "posthub-log-store"]["spec"]["template"]["spec"]["containers"]
    assert "-retentionPeriod=30d" in store["args"]
    assert "-retentionPeriod=${LOGS_RETENTION:-30d}" in production["services"]["posthub_log_store"]["command"]
    # Nothing else has host paths, here or in the namespace of the app.
    for name, _, spec in pod_specs(list(found.values())):
        hosts = [volume["name"] for volume in spec.get("volumes", []) if "hostPath" in volume]
        assert (hosts == []) is (name != READS_THE_NODES), name


def test_only_the_gateway_and_the_shipper_reach_the_log_store(tmp_path: Path) -> None:
    found = production_with("logs", tmp_path)
    (ingress,) = found["NetworkPolicy", "to-the-store"]["spec"]["ingress"]
    (source,) = ingress["from"]
    assert set(source) == {"podSelector"}
    (chosen,) = source["podSelector"]["matchExpressions"]
    assert set(chosen["values"]) == {"posthub-log-gateway", "posthub-log-shipper"}


def test_traefik_redirects_to_https_and_sends_hsts_like_caddy() -> None:
    """http:// was answered with 404, and only the app's own answers had HSTS."""
    documents = _all("overlays/staging")
    middlewares = {d["metadata"]["name"]: d["spec"] for d in documents if d["kind"] == "Middleware"}
    assert middlewares["redirect"]["redirectScheme"] == {"scheme": "https", "permanent": True}
    (route,) = (d["spec"] for d in documents if d["kind"] == "IngressRoute")
    assert route["entryPoints"] == ["web"]
    assert route["routes"][0]["middlewares"] == [{"name": "redirect"}]
    # With lower priority than every other route, such as those of certificates.
    assert route["routes"][0]["priority"] == 1
    # Opt-in: subdomains and preload.
    assert middlewares["hsts"]["headers"] == {"stsSeconds": 31536000}
    for ingress in (d for d in documents if d["kind"] == "Ingress"):
        used = ingress["metadata"]["annotations"]["traefik.ingress.kubernetes.io/router.middlewares"]
        assert "posthub-hsts@kubernetescrd" in used, ingress["metadata"]["name"]


def test_the_gateway_component_has_the_same_public_paths(tmp_path: Path) -> None:
    """Flower and the admin need a password, which the standard does not have."""
    found = production_with("gateway", tmp_path)
    assert not [kind for kind, _ in found if kind == "Ingress"]
    listeners = {each["name"]: each for each in found["Gateway", "posthub"]["spec"]["listeners"]}
    routed = {
        (listeners[route["spec"]["parentRefs"][0]["sectionName"]]["hostname"], match["path"]["value"])
        for route in (found["HTTPRoute", name] for name in ("posthub", "posthub-api"))
        for rule in route["spec"]["rules"]
        for match in rule["matches"]
    }
    ingress = next(d for d in plain() if d["metadata"]["name"] == "posthub-ingress")
    assert routed == {
        (rule["host"], path["path"]) for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]
    }


def test_the_gateway_component_redirects_to_https_and_sends_hsts(tmp_path: Path) -> None:
    found = production_with("gateway", tmp_path)
    (redirect,) = found["HTTPRoute", "posthub-redirect"]["spec"]["rules"]
    assert redirect["filters"][0]["requestRedirect"] == {"scheme": "https", "statusCode": 301}
    for name in ("posthub", "posthub-api"):
        for rule in found["HTTPRoute", name]["spec"]["rules"]:
            (header,) = rule["filters"][0]["responseHeaderModifier"]["set"]
            assert header == {"name": "Strict-Transport-Security", "value": "max-age=31536000"}
            (backend,) = rule["backendRefs"]
            (port,) = found["Service", backend["name"]]["spec"]["ports"]
            assert backend["port"] == port["port"]


def test_only_the_traefik_of_k3s_is_let_in_from_kube_system(tmp_path: Path) -> None:
    found = production_with("k3s-traefik", tmp_path)
    for name in ("from-the-ingress", "acme-challenges"):
        (rule,) = found["NetworkPolicy", name]["spec"]["ingress"]
        (source,) = (
            each
            for each in rule["from"]
            if each["namespaceSelector"]["matchLabels"].get("kubernetes.io/metadata.name") == "kube-system"
        )
        assert source["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "traefik"}}


def test_the_documented_overlay_builds_and_its_table_names_objects(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    section = page.partition("**A separate overlay**")[2].partition("The network policies admit")[0]
    table = [line for line in section.splitlines() if line.startswith("| ")][1:]
    known = {document["metadata"]["name"] for document in plain()}
    for line in table:
        _, _, named, files, _ = (cell.strip() for cell in line.split("|"))
        objects = {name for name in re.findall(r"`([\w-]+)`", named) if name != "gateway"}
        assert objects <= known, line
        text = "".join((K8S / path).read_text(encoding="utf-8") for path in re.findall(r"`(\S+)`", files))
        assert all(f"name: {name}\n" in text for name in objects), line
    if builder() is None:
        pytest.skip(
            "neither kubectl nor kustomize is on PATH; https://kubernetes.io/docs/tasks/tools says how to get them"
        )
    example = yaml.safe_load(section.partition("```yaml\n")[2].partition("```")[0])
    for kind in ("resources", "components"):
        (address,) = example[kind]
        path = address.partition("//k8s/")[2].removesuffix("?ref=TAG")
        example[kind] = [os.path.relpath(K8S / path, tmp_path.resolve())]
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(example))
    found = {(one["kind"], one["metadata"]["name"]): one for one in built(str(tmp_path))}
    assert found["ConfigMap", "posthub-config"]["data"]["ALLOWED_HOSTS"] == "api.example.com"
    assert found["Cluster", "posthub-postgres"]["spec"]["storage"]["size"] == "200Gi"


def test_a_store_can_hold_every_secret_of_the_script() -> None:
    external = {one["metadata"]["name"]: one["spec"] for one in _of_kind("ExternalSecret")}
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    typed = page.partition("create secret generic posthub-$name --type=")[0].rpartition("for name in ")[2]
    basic = {f"posthub-{name}" for name in typed.partition(";")[0].split()}
    # Made by cert-manager, for the move, or with the component pitr.
    elsewhere = {"posthub-tls", "posthub-move", "posthub-backup-wal", "posthub-postgres-wal"}
    assert set(external) == SECRETS - elsewhere
    for name, spec in external.items():
        assert spec["target"]["name"] == name
        assert spec["dataFrom"] == [{"extract": {"key": name.replace("posthub-", "posthub/", 1)}}]
        template = spec["target"].get("template", {})
        assert (template.get("type") == "kubernetes.io/basic-auth") == (name in basic)
        assert ("cnpg.io/reload" in template.get("metadata", {}).get("labels", {})) == (name in basic)


def test_cloudnativepg_notices_a_changed_password() -> None:
    """It watches only secrets with this label."""
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    made = re.findall(r"create secret generic (\S+) --type=kubernetes.io/basic-auth", page)
    assert len(made) == 2
    for name in made:
        assert f"label secret {name} cnpg.io/reload=true" in page, name


def test_a_scaled_object_sets_nothing_that_keda_ignores() -> None:
    """With at least one pod, KEDA never activates: its webhook warns of settings for that."""
    for scaled in _of_kind("ScaledObject"):
        assert scaled["spec"]["minReplicaCount"] > 0
        assert not {"pollingInterval", "cooldownPeriod"} & set(scaled["spec"]), scaled["metadata"]["name"]
        assert "activationThreshold" not in str(scaled["spec"]["triggers"]), scaled["metadata"]["name"]


def test_flower_is_evicted_before_what_the_site_needs() -> None:
    names = {one["metadata"]["name"] for one in _of_kind("PriorityClass")}
    needed = {pod for pod, _, spec in pod_specs(plain()) if spec.get("priorityClassName") in names}
    assert needed == {
        "Deployment/posthub-alert-watch",
        "Deployment/posthub-api",
        "Deployment/posthub-celery-beat",
        "Deployment/posthub-celery-worker",
        "Deployment/posthub-celery-worker-ai",
        "StatefulSet/posthub-redis",
    }
    (cluster,) = _of_kind("Cluster")
    assert cluster["spec"]["priorityClassName"] in names


def test_more_pods_of_the_app_drive_no_other_pod_away() -> None:
    """A scaled worker took the place of KEDA's operator, which has no priority."""
    scaled = [*_of_kind("ScaledObject"), *_of_kind("HorizontalPodAutoscaler")]
    targets = {f"Deployment/{one['spec']['scaleTargetRef']['name']}" for one in scaled}
    classes = {one["metadata"]["name"]: one for one in _of_kind("PriorityClass")}
    found = {pod: classes[spec["priorityClassName"]] for pod, _, spec in pod_specs(plain()) if pod in targets}
    assert set(found) == targets
    assert {one.get("preemptionPolicy") for one in found.values()} == {"Never"}
    # PostgreSQL, Redis and beat may take theirs.
    assert max(one["value"] for one in found.values()) < classes["posthub-essential"]["value"]


class _TrialsBucket(ObjectStore):
    """Started as the manifest does it, in a folder."""

    def command(self) -> list[str]:
        (pod,) = (spec for name, _, spec in pod_specs(plain()) if name == "Deployment/posthub-trial-s3")
        (container,) = pod["containers"]
        (script,) = container["args"]
        places = {
            "/run/secrets": str(self.folder),
            "/data": str(self.objects),
            "/tmp": str(self.folder),
            ":9000": f"{HOST}:{self.port}",
        }
        script = re.sub("|".join(places), lambda found: places[found[0]], script)
        return [*container["command"], script]

    def environment(self) -> dict[str, str]:
        (self.folder / "s3_access_key_id").write_text(self.access_key)
        (self.folder / "s3_secret_access_key").write_text(self.secret_key)
        return os.environ | {"PATH": f"{find('rclone').parent}:{os.environ['PATH']}"}


def test_the_bucket_of_the_trial_starts_with_its_secrets(tmp_path: Path) -> None:
    with _TrialsBucket(tmp_path / "s3") as server:
        buckets = server.client().list_buckets()["Buckets"]
    assert [one["Name"] for one in buckets] == ["posthub-backups"]
