import time
from pathlib import Path

import pytest
import requests

from sidecar import OpsError
from stack.inbox import Inbox


def webhook(alert: str, status: str) -> dict[str, object]:
    labels = {"alertname": alert, "severity": "critical"}
    return {"alerts": [{"status": status, "labels": labels, "annotations": {"summary": "it <broke>"}}]}


def test_notifications_arrive_and_can_be_awaited(tmp_path: Path) -> None:
    with Inbox(tmp_path / "inbox.log") as inbox:
        began = time.time()
        assert requests.post(inbox.url, json=webhook("A", "firing"), timeout=5).ok
        assert inbox.wait_for("A", since=began, timeout=5).labels["severity"] == "critical"
        with pytest.raises(OpsError, match=r"no resolved notification of A within 0\.1 s; arrived: A firing"):
            inbox.wait_for("A", "resolved", timeout=0.1)
        assert "it &lt;broke&gt;" in requests.get(inbox.url, timeout=5).text
        assert "FIRING [critical] A: it <broke>" in (tmp_path / "inbox.log").read_text()


@pytest.mark.parametrize(
    "body", [b"", b"nonsense", b"[]", b'{"alerts": [1]}', b'{"alerts": [{"labels": {}}]}']
)
def test_anything_else_is_refused(tmp_path: Path, body: bytes) -> None:
    with Inbox(tmp_path / "inbox.log") as inbox:
        assert requests.post(inbox.url, data=body, timeout=5).status_code == 400
        assert not inbox.notifications
