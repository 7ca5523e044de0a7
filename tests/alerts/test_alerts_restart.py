"""Prometheus and Alertmanager restart while alerts are pending, firing, inhibited and kept: notifications match the facts.

The real programs, with durations of seconds and production's settings in the same proportions.
"""

import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
import requests
import yaml

from alerts.alertmanager import Alertmanager as Api
from sidecar.prometheus import Prometheus as Client
from sidecar.web import Request, Response, WebServer
from stack import ports
from stack.inbox import Inbox
from stack.ports import HOST
from stack.programs import find
from stack.servers import Alertmanager, Prometheus
from stack.wait import wait_for

# One fault lasts, one is over before the restart, one has just begun.
RULES = {
    "groups": [
        {
            "name": "restart",
            "rules": [
                {"alert": "Cause", "expr": "down == 1", "for": "1s"},
                {"alert": "Symptom", "expr": "down == 1", "for": "2s"},
                {"alert": "Over", "expr": "over == 1", "for": "1s"},
                # It still looks back over the outage, as RedisRecentlyDown does, and inhibits other alerts that do.
                {
                    "alert": "RecentlyOver",
                    "expr": 'max(max_over_time(ALERTS{alertname="Over", alertstate="firing"}[5m])) == 1',
                },
                {"alert": "LooksBack", "expr": "max_over_time(over[5m]) == 1", "for": "2s"},
                {"alert": "Pending", "expr": "begun == 1", "for": "4s"},
            ],
        }
    ]
}
ROUTES = {
    "route": {
        "receiver": "inbox",
        "group_by": ["alertname"],
        "group_wait": "1s",
        "group_interval": "1s",
        "repeat_interval": "4h",
        "routes": [{"matchers": ['alertname="RecentlyOver"'], "receiver": "nobody"}],
    },
    "inhibit_rules": [
        {"source_matchers": ['alertname="Cause"'], "target_matchers": ['alertname="Symptom"']},
        {"source_matchers": ['alertname=~"Over|RecentlyOver"'], "target_matchers": ['alertname="LooksBack"']},
    ],
}
# Seconds; Alertmanager ends alerts that were not sent again for four times as long.
RESEND = 6
LONG = 60.0


DELAY = "--dispatch.start-delay"


@cache
def knows_delay() -> bool:
    """Whether this Alertmanager can wait for causes after its start: 0.35 and newer."""
    done = subprocess.run([find("alertmanager"), "--help"], capture_output=True, text=True, check=False)
    return DELAY in done.stdout + done.stderr


class Patient(Alertmanager):
    """Waits after its start as production's does: until Prometheus has sent every alert again."""

    def command(self) -> list[str]:
        return [*super().command(), *([f"{DELAY}={2 * RESEND}s"] if knows_delay() else [])]


class Eager(Prometheus):
    """Also continues alerts with a short `for`; production's does so from a minute on."""

    def command(self) -> list[str]:
        return [
            *super().command(),
            "--rules.alert.for-grace-period=1s",
            f"--rules.alert.resend-delay={RESEND}s",
        ]


@dataclass
class Page:
    """The scraped target."""

    values: dict[str, int] = field(default_factory=lambda: {"down": 0, "over": 0, "begun": 0})

    def __call__(self, _: Request) -> Response:
        text = "".join(f"{name} {value}\n" for name, value in self.values.items())
        return Response(text.encode(), "text/plain; version=0.0.4")


@dataclass
class Monitoring:
    """The two programs, their configuration and the receiver of their notifications."""

    page: Page
    prometheus: Prometheus
    alertmanager: Alertmanager
    inbox: Inbox

    def restart(self) -> None:
        """Both at once, as `docker compose restart` does.

        An older Alertmanager is left alone: after a start it notifies what has been firing for a long time as soon as it arrives,
        also when its cause arrives later (docs/alerts.md).
        """
        began = time.monotonic()
        self.prometheus.stop()
        if knows_delay():
            self.alertmanager.stop()
            start = threading.Thread(target=self.alertmanager.start)
            start.start()
            self.prometheus.start()
            start.join()
        else:
            self.prometheus.start()
        self.connected()
        if time.monotonic() - began > 3 * RESEND:
            pytest.skip("this machine restarts too slowly: Alertmanager ends alerts that are not sent again")

    def connected(self) -> None:
        """Wait until Prometheus knows Alertmanager; alerts that fire before that are sent to no one, and again later."""
        url = f"{self.prometheus.url}/api/v1/alertmanagers"
        wait_for(
            lambda: requests.get(url, timeout=10).json()["data"]["activeAlertmanagers"],
            timeout=LONG,
            what="Prometheus knows Alertmanager",
            hint=f"{self.prometheus.log}",
        )

    def firing(self, *names: str) -> None:
        """Wait until exactly these alerts fire, by Prometheus and by Alertmanager."""
        wait_for(
            lambda: self._of_prometheus() == set(names) and self._of_alertmanager() == set(names),
            timeout=LONG,
            what=f"{names} fire",
            hint=f"{self.prometheus.log}",
        )

    def _of_prometheus(self) -> set[str]:
        found = Client(self.prometheus.url).alerts()
        return {name for name, state in found.items() if state == "firing"}

    def _of_alertmanager(self) -> set[str]:
        return {one["labels"]["alertname"] for one in Api(self.alertmanager.url).alerts()}


@pytest.fixture
def monitoring(tmp_path: Path) -> Iterator[Monitoring]:
    page = Page()
    target = WebServer(HOST, ports.choose(), {"/metrics": page})
    target.start()
    with Inbox(tmp_path / "inbox.log") as inbox:
        routes = tmp_path / "alertmanager.yml"
        receivers = [
            {"name": "nobody"},
            {"name": "inbox", "webhook_configs": [{"url": inbox.url, "send_resolved": True}]},
        ]
        routes.write_text(yaml.safe_dump({**ROUTES, "receivers": receivers}))
        with Patient(tmp_path / "alertmanager", config=routes) as alertmanager:
            (tmp_path / "rules.yml").write_text(yaml.safe_dump(RULES))
            config = tmp_path / "prometheus.yml"
            config.write_text(
                yaml.safe_dump(
                    {
                        "global": {
                            "scrape_interval": "500ms",
                            "scrape_timeout": "500ms",
                            "evaluation_interval": "500ms",
                        },
                        "rule_files": ["rules.yml"],
                        "scrape_configs": [
                            {"job_name": "page", "static_configs": [{"targets": [f"{HOST}:{target.port}"]}]}
                        ],
                        "alerting": {
                            "alertmanagers": [
                                {"static_configs": [{"targets": [f"{HOST}:{alertmanager.port}"]}]}
                            ]
                        },
                    }
                )
            )
            with Eager(tmp_path / "prometheus", config=config) as prometheus:
                yield Monitoring(page, prometheus, alertmanager, inbox)
    target.stop()


def test_a_restart_sends_no_false_notification(monitoring: Monitoring) -> None:
    page, inbox = monitoring.page, monitoring.inbox
    monitoring.connected()
    page.values |= {"down": 1, "over": 1}
    for alert in ("Cause", "Over"):
        inbox.wait_for(alert, timeout=LONG)
    monitoring.firing("Cause", "Symptom", "Over", "RecentlyOver", "LooksBack")
    page.values |= {"over": 0, "begun": 1}
    inbox.wait_for("Over", "resolved", timeout=LONG)

    monitoring.restart()
    # Pending alerts are notified. An inhibited alert that fires stays inhibited, without a notification.
    inbox.wait_for("Pending", timeout=LONG)
    monitoring.firing("Cause", "Symptom", "RecentlyOver", "LooksBack", "Pending")
    page.values |= {"down": 0, "begun": 0}
    for alert in ("Cause", "Pending"):
        inbox.wait_for(alert, "resolved", timeout=LONG)
    found = [(one.alert, one.status) for one in inbox.notifications]
    wanted = [(alert, status) for alert in ("Cause", "Over", "Pending") for status in ("firing", "resolved")]
    assert sorted(found) == wanted
