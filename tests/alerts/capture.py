"""Captures what the real programs expose, for tests/fixtures/metrics: ``python -m tests.alerts.capture FOLDER``.

Put the pinned versions of the exporters first on PATH; their versions are recorded next to the outputs.
"""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from importlib import metadata
from pathlib import Path

import psycopg
import requests
import yaml

from exporters import __version__
from stack.demo.backups import Backups
from stack.demo.traffic import Traffic, customers_of
from stack.ports import HOST, choose
from stack.programs import find
from stack.servers import Service
from stack.suite import Suite
from tests.e2e.livestack import started

LOAD_SECONDS = 20
MAX_SERIES = 60
# Caddy's own certificate, so that its expiry can be probed.
TLS_PORT = choose()
CADDYFILE = """{{
	admin off
	metrics
	skip_install_trust
	auto_https disable_redirects
}}
http://{host}:{port} {{
	handle /metrics {{
		metrics
	}}
	handle {{
		reverse_proxy {host}:{api}
	}}
}}
https://localhost:{tls} {{
	tls internal
	reverse_proxy {host}:{api}
}}
"""


def main(target: Path) -> None:
    """Run the suite under load and write one file per program."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place, Suite(Path(place), factor=60) as suite:
        seeded = suite.manage("seed_demo", "--users", "2", "--json")
        others = {**started(suite), "caddy": caddy(suite), "node": node(suite), "watch": watch(suite)}
        try:
            for service in others.values():
                service.start()
            with Traffic(suite.api.url, customers_of(json.loads(seeded))):
                time.sleep(LOAD_SECONDS)
                backups = Backups(suite)
                backups.verify(str(backups.run()["id"]))
                for name in ("default", "quick", "scheduled"):
                    requests.get(f"{others['caddy'].url}/{name}", timeout=5)
                slot(suite)
                time.sleep(LOAD_SECONDS)
                write(target, suite, "postgres_exporter", f"{others['postgres'].url}/metrics")
                interruption(suite)
                time.sleep(LOAD_SECONDS)
                write_all(target, suite, others)
        finally:
            for service in others.values():
                service.stop()


def slot(suite: Suite) -> None:
    """Create what an abandoned replica leaves behind."""
    with psycopg.connect(suite.postgres.url, autocommit=True) as connection:
        connection.execute("SELECT pg_create_physical_replication_slot('standby')")


def interruption(suite: Suite) -> None:
    """Database errors have a counter only after the first one."""
    suite.crash(suite.postgres)
    requests.get(f"{suite.api.url}/api/v1/health/", timeout=20)
    suite.revive(suite.postgres)


def write(target: Path, suite: Suite, name: str, page: str) -> None:
    """Fetch one page of metrics."""
    answer = requests.get(page, headers={"Accept": "text/plain;version=0.0.4"}, timeout=20)
    answer.raise_for_status()
    text = kept(answer.text, str(suite.folder))
    (target / f"{name}.prom").write_text(text, encoding="utf-8")
    print(f"{name}: {len(text.splitlines())} lines")


def write_all(target: Path, suite: Suite, others: dict[str, Service]) -> None:
    """Fetch the other pages, and record the versions."""
    blackbox = others["blackbox"].url
    pages = {
        "django": f"{suite.api.url}/metrics",
        "celery_exporter": f"{suite.exporter.url}/metrics",
        "backup": f"{suite.backup.url}/metrics",
        "prometheus": f"{suite.prometheus.url}/metrics",
        "alertmanager": f"{suite.alertmanager.url}/metrics",
        "redis_exporter": f"{others['redis'].url}/metrics",
        "node_exporter": f"{others['node'].url}/metrics",
        "blackbox_probe": f"{blackbox}/probe?module=http_2xx&target=https://localhost:{TLS_PORT}/health/",
        "caddy": f"{others['caddy'].url}/metrics",
        "alert_watch": f"{others['watch'].url}/metrics",
    }
    for name, page in pages.items():
        write(target, suite, name, page)
    programs = (
        "prometheus",
        "alertmanager",
        "redis_exporter",
        "postgres_exporter",
        "node_exporter",
        "blackbox_exporter",
        "caddy",
        "redis-server",
    )
    document = {name: version(find(name)) for name in programs}
    document["postgres"] = "18 (embedded)"
    document["django-prometheus"] = metadata.version("django-prometheus")
    document["celery_exporter"] = document["backup"] = document["alert_watch"] = __version__
    # cadvisor.prom is not captured here.
    path = target / "versions.yml"
    known = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(yaml.safe_dump({**known, **document}), encoding="utf-8")


def kept(text: str, place: str) -> str:
    """The output without comments, with a few series of each metric, and without this machine's names."""
    host = socket.gethostname()
    counts: Counter[str] = Counter()
    seen: set[str] = set()
    lines: list[str] = []
    text = text.replace(place, "").replace(f"@{host}", "@host").replace(f'"{host}"', '"host"')
    text = re.sub(r'(nodename|mountpoint|address|path)="[^"]{2,}"', r'\1="/somewhere"', text)
    for line in text.splitlines():
        series = line.rpartition(" ")[0]
        name = series.split("{")[0]
        if line.startswith("# TYPE"):
            lines.append(line)
        elif not line.startswith("#") and series not in seen and 'fstype="tmpfs"' not in line:
            seen.add(series)
            counts[name] += 1
            if counts[name] <= MAX_SERIES:
                lines.append(line)
    return "\n".join(lines) + "\n"


def version(program: Path) -> str:
    """The version that a program prints."""
    for argument in ("--version", "version"):
        done = subprocess.run([program, argument], capture_output=True, text=True, check=False)
        found = re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr)
        if found:
            return found.group()
    return "unknown"


def caddy(suite: Suite) -> Service:
    """Caddy in front of the API, with metrics as in production."""
    port = choose()
    config = suite.folder / "Caddyfile"
    config.write_text(CADDYFILE.format(host=HOST, port=port, tls=TLS_PORT, api=suite.api.port))
    arguments = [str(find("caddy")), "run", "--config", str(config), "--adapter", "caddyfile"]
    folder = suite.folder / "caddy"
    # It stores its certificates in its home folder.
    return Service("caddy", arguments, folder=folder, env={"HOME": str(folder)}, port=port, ready="/metrics")


def watch(suite: Suite) -> Service:
    """The alert watch with one receiver."""
    port = choose()
    env = {
        **os.environ,
        "ALERTS_WATCH_PORT": str(port),
        "ALERTS_WATCH_HOST": HOST,
        "ALERTMANAGER_URL": suite.alertmanager.url,
        "ALERTMANAGER_WEBHOOK_URL": suite.inbox.url,
        "ALERTS_CANARY_EVERY": "5",
    }
    arguments = [sys.executable, "-m", "alerts", "watch"]
    return Service(
        "watch",
        arguments,
        folder=suite.folder / "watch",
        env=env,
        port=port,
        ready="/metrics",
        log=suite.logs / "watch.log",
    )


def node(suite: Suite) -> Service:
    """node_exporter on this machine."""
    port = choose()
    arguments = [str(find("node_exporter")), f"--web.listen-address={HOST}:{port}"]
    return Service("node", arguments, folder=suite.folder / "node", env={}, port=port, ready="/metrics")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
