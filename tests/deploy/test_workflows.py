"""The workflows: rules that their schema, checked by a gate, cannot express."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from stack import gates
from stack.paths import PROGRAMS, ROOT
from tests.deploy.kubekit import plain, pod_specs

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def _jobs() -> list[tuple[str, dict[str, Any]]]:
    found = ((path.stem, yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]) for path in WORKFLOWS)
    return [(f"{stem}/{name}", job) for stem, jobs in found for name, job in jobs.items()]


def test_actionlint_finds_nothing() -> None:
    gate = next((gate for gate in gates.gates() if gate.name == "actionlint"), None)
    if gate is None:
        pytest.skip(
            f"actionlint is not here; GOBIN={PROGRAMS}/bin go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.12 "
            "makes it a gate (GitHub runs it)"
        )
    assert {str(path.relative_to(ROOT)) for path in WORKFLOWS} <= set(gate.command)
    done = subprocess.run(gate.command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_schema_holds() -> None:
    from stack.paths import VENV_BIN

    command = [
        str(VENV_BIN / "check-jsonschema"),
        "--builtin-schema",
        "vendor.github-workflows",
        *map(str, WORKFLOWS),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_ci_runs_what_people_run() -> None:
    steps = dict(_jobs())["test/test"]["steps"]
    assert any(step.get("run") == ".ci/run" for step in steps)


def test_alerts_are_tested_with_the_versions_that_production_runs(production: dict[str, Any]) -> None:
    steps = dict(_jobs())["test/monitoring"]["steps"]
    taken = re.findall(r"take (\S+) (.+)", "\n".join(step.get("run", "") for step in steps))
    images = [service["image"].partition(":")[0] for service in production["services"].values()]
    assert [image for image, _ in taken if images.count(image) != 1] == []
    assert {program for _, programs in taken for program in programs.split()} >= {
        "/bin/prometheus",
        "/bin/promtool",
        "/bin/alertmanager",
        "/bin/amtool",
    }
    paths = next(step["run"] for step in steps if step.get("run", "").startswith("./ops test ")).split()[2:]
    assert all((ROOT / path).exists() for path in paths)


# They may take a backup first. A limit that ends them in the middle leaves a half-replaced version.
ROLLOUTS = {"deploy/vps", "deploy/kubernetes"}
# The most that a runner of GitHub allows.
LONGEST_MINUTES = 360


def test_nothing_has_more_rights_than_it_needs_or_runs_forever() -> None:
    for path in WORKFLOWS:
        assert yaml.safe_load(path.read_text(encoding="utf-8"))["permissions"] == {"contents": "read"}, (
            path.name
        )
    for name, job in _jobs():
        if name not in ROLLOUTS:
            assert "uses" in job or job["timeout-minutes"] <= 60, name


def test_no_rollout_is_ended_in_the_middle() -> None:
    limits = {name: job["timeout-minutes"] for name, job in _jobs() if name in ROLLOUTS}
    assert limits == dict.fromkeys(ROLLOUTS, LONGEST_MINUTES)


def test_no_expression_is_pasted_into_a_script() -> None:
    """A branch name or a variable in a shell line can inject commands; through the environment it is only text."""
    for name, job in _jobs():
        for step in job.get("steps", []):
            assert not re.search(r"\$\{\{", step.get("run", "")), f"{name}: {step.get('name')}"


def test_actions_of_others_are_pinned_by_commit() -> None:
    """A tag can be moved to code that abuses the job's permissions."""
    used = {step["uses"] for _, job in _jobs() for step in job.get("steps", []) if "uses" in step}
    others = {name for name in used if not name.startswith(("actions/", "github/", "./"))}
    assert others
    assert {name for name in others if not re.search(r"@[0-9a-f]{40}$", name)} == set()


def test_the_scan_fails_only_for_what_it_names() -> None:
    (scan,) = (step for step in dict(_jobs())["deploy/build"]["steps"] if step.get("name") == "Scan")
    assert scan["with"]["severity"] == "CRITICAL,HIGH"
    # SARIF would have every severity, and the exit code with it.
    assert scan["with"]["limit-severities-for-sarif"] == "true"


def test_every_image_of_compose_is_built(production: dict[str, Any]) -> None:
    built = {
        one["name"]: one["dockerfile"]
        for one in dict(_jobs())["deploy/build"]["strategy"]["matrix"]["include"]
    }
    wanted = {
        service["image"].split("/")[-1].partition(":")[0]: str(
            Path(service["build"]["context"]) / service["build"]["dockerfile"]
        )
        for service in production["services"].values()
        if "build" in service
    }
    assert built == wanted
    for dockerfile in built.values():
        assert (ROOT / dockerfile).exists()


def test_everything_that_ages_is_scanned_every_week() -> None:
    scan = yaml.safe_load((ROOT / ".github" / "workflows" / "scan.yml").read_text(encoding="utf-8"))
    # YAML 1.1 reads the key `on` as true.
    assert scan[True]["schedule"]
    runs = [step["run"] for job in scan["jobs"].values() for step in job["steps"] if "run" in step]
    # Every image of the stack, with those of profiles; not a list kept by hand.
    assert any("--profile '*' config --images" in run for run in runs)
    assert any("locks/*.txt" in run for run in runs)


def test_the_images_of_the_cluster_are_scanned_too() -> None:
    """Dependabot does not know the database's, whose key is imageName."""
    (scan,) = (step["run"] for step in _steps("scan/images") if step.get("name") == "Scan")
    (listing,) = re.findall(r"cluster=\$\((.+)\)", scan)
    assert "$cluster" in scan
    done = subprocess.run(["sh", "-c", listing], cwd=ROOT, capture_output=True, text=True, check=True)
    pods = {
        container["image"]
        for _, _, spec in pod_specs(plain())
        for container in spec["containers"]
        if not container["image"].startswith("posthub/")
    }
    databases = {one["spec"]["imageName"] for one in plain() if one["kind"] == "Cluster"}
    assert databases
    assert set(done.stdout.split()) == pods | databases


def test_a_real_api_is_asked_about_the_manifests() -> None:
    """With the versions of the operators that docs/kubernetes.md names."""
    steps = _steps("cluster/manifests")
    path = "tests/cluster/kube_manifests.py"
    assert steps[-1]["run"] == f"./ops test {path}"
    assert (ROOT / path).exists()
    (made,) = (step["run"] for step in steps if "kind create cluster" in step.get("run", ""))
    found = dict(re.findall(r"^kinds \S+/(\S+) (\d+\.\d+)", made, re.MULTILINE))
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    for name, row in {
        "cloudnative-pg": r"CloudNativePG, .*\| (\d+\.\d+), plugin",
        "plugin-barman-cloud": r"CloudNativePG, .* plugin (\d+\.\d+) \|",
        "keda": r"KEDA .*\| (\d+\.\d+) \|",
        "traefik": r"Traefik, .*\| (\d+\.\d+), ",
    }.items():
        assert re.findall(rf"^\| {row}", page, re.MULTILINE) == [found[name]], name


def test_dependabot_knows_every_kind_of_dependency() -> None:
    config = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text(encoding="utf-8"))
    found = {one["package-ecosystem"]: one for one in config["updates"]}
    assert {"github-actions", "docker", "docker-compose", "npm", "pip"} <= set(found)
    dockerfiles = {
        f"/{path.parent.relative_to(ROOT)}"
        for path in ROOT.glob("*/**/Dockerfile")
        if "node_modules" not in path.parts
    }
    tracked = {one for one in dockerfiles if not one.startswith(("/.", "/tests"))}
    assert tracked <= set(found["docker"]["directories"])
    assert all(one["cooldown"]["default-days"] >= 3 for one in config["updates"])


def _steps(job: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = dict(_jobs())[job]["steps"]
    return found


def test_what_is_scanned_is_what_is_pushed() -> None:
    """Two builds may differ: a package is updated in between, or a base image."""
    steps = {step["name"]: step for step in _steps("deploy/build") if "name" in step}
    builds = [step for step in _steps("deploy/build") if "build-push-action" in step.get("uses", "")]
    assert len(builds) == 1
    assert builds[0]["with"]["outputs"] == "type=oci,dest=image.tar"
    assert not builds[0]["with"].get("push")
    assert steps["Scan"]["with"]["input"] == "image.tar"
    assert "--preserve-digests" in steps["Push"]["run"]
    assert "oci-archive:image.tar" in steps["Push"]["run"]
    order = list(steps)
    assert order.index("Build") < order.index("Scan") < order.index("Push") < order.index("Attest")
    assert steps["Attest"]["with"]["subject-digest"] == "${{ steps.push.outputs.digest }}"


def test_only_attested_digests_are_rolled_out() -> None:
    jobs = dict(_jobs())
    (check,) = (step for step in _steps("deploy/verify") if step.get("name") == "Verify attestations")
    assert "gh attestation verify" in check["run"]
    for text in ("--repo", "--source-digest", "--signer-workflow"):
        assert text in check["run"]
    built = {one["name"] for one in jobs["deploy/build"]["strategy"]["matrix"]["include"]}
    named = re.findall(r"for name in ([\w -]+);", check["run"])
    assert set(named[0].split()) == built
    for target in ("vps", "kubernetes"):
        assert jobs[f"deploy/{target}"]["needs"] == "verify"
        rollouts = [step for step in _steps(f"deploy/{target}") if "DIGESTS" in step.get("env", {})]
        assert len(rollouts) == 1
        assert re.search(rf"ops deploy {target}.* \$DIGESTS", rollouts[0]["run"])


def test_the_databases_tag_is_the_one_that_compose_runs(production: dict[str, Any]) -> None:
    tag = production["services"]["posthub_postgres_prod"]["image"].rpartition(":")[2]
    include = dict(_jobs())["deploy/build"]["strategy"]["matrix"]["include"]
    assert [one["tags"] for one in include if one["name"] == "postgres"] == [tag]
    (check,) = (step for step in _steps("deploy/verify") if step.get("name") == "Verify attestations")
    assert f"postgres) tag={tag} ;;" in check["run"]


def test_a_gate_checks_the_security_of_the_workflows() -> None:
    assert any(gate.name.startswith("zizmor") for gate in gates.gates())
