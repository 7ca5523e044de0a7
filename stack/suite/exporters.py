"""Third-party exporters next to a running suite, and the scrape jobs for them."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from stack.ports import HOST, choose
from stack.programs import find
from stack.programs.kits import EXPORTERS
from stack.servers import Service
from stack.suite import environments, monitoring
from stack.suite.suite import Suite

Targets = Sequence[Mapping[str, Any]]


def service(suite: Suite, program: str, *arguments: str, env: Mapping[str, str] | None = None) -> Service:
    """An exporter on a random port, with its log next to those of the suite."""
    name, port = program.replace("_", "-"), choose()
    return Service(
        name,
        [str(find(program)), *arguments, f"--web.listen-address={HOST}:{port}"],
        folder=suite.folder / name,
        env={**environments.machine(suite.sources.scratch), **(env or {})},
        port=port,
        ready="/metrics",
        log=suite.logs / f"{name}.log",
    )


def redis(suite: Suite) -> Service:
    """The exporter of the suite's Redis."""
    return service(suite, EXPORTERS["redis"], f"--redis.addr=redis://{HOST}:{suite.redis.port}")


def postgres(suite: Suite) -> Service:
    """The exporter of the suite's PostgreSQL, with production's flags."""
    source = {"DATA_SOURCE_NAME": f"{suite.postgres.url}?sslmode=disable"}
    return service(suite, EXPORTERS["postgres"], *_postgres_flags(), env=source)


def node(suite: Suite) -> Service:
    """The exporter of this machine."""
    return service(suite, EXPORTERS["node"])


def scrape(suite: Suite, targets: Mapping[str, Targets]) -> None:
    """Add jobs of the repository's own configuration to the running Prometheus.

    Args:
        targets: by the name of the job.
    """
    folder = suite.folder / "monitoring"
    config = folder / "prometheus.yml"
    document: dict[str, Any] = yaml.safe_load(config.read_text(encoding="utf-8"))
    committed = yaml.safe_load((monitoring.ALERTS / "prometheus.yml").read_text(encoding="utf-8"))
    for job in committed["scrape_configs"]:
        name = job["job_name"]
        if name in targets:
            (folder / "targets" / f"{name}.yml").write_text(yaml.safe_dump(list(targets[name])))
            # An old exporter takes a second to report that there is no database.
            pace = {"scrape_interval": "2s", "scrape_timeout": "2s"} if name == "postgres" else {}
            document["scrape_configs"].append({**monitoring.without_login(job), **pace})
    config.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    os.kill(suite.prometheus.pid, signal.SIGHUP)


def _postgres_flags() -> list[str]:
    """The flags of production; a system's old exporter lacks one, and its bgwriter collector fails on PostgreSQL 17."""
    done = subprocess.run([find("postgres_exporter"), "--help"], capture_output=True, text=True, check=False)
    # Newer programs write --[no-]collector.….
    known = done.stdout + done.stderr
    return [
        *(["--collector.database_wraparound"] if "collector.database_wraparound" in known else []),
        *(["--no-collector.bgwriter"] if "collector.bgwriter" in known else []),
    ]
