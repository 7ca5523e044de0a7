"""A rollout and a rollback of the whole production stack under traffic, outside ``./ops test``.

It needs production's compose running from this checkout, on a host where nobody uses it, with these lines in
``.env.production``: ``CADDY_GLOBAL_OPTIONS=local_certs``, ``WEBHOOK_ALLOW_PRIVATE=true``, ``WEBHOOK_ALLOW_HTTP=true``,
``API_THROTTLE_ANON=off``, ``API_THROTTLE_USER=off``::

    ./ops test tests/cluster/compose_traffic.py

docs/deployment.md has the last result.
"""

import subprocess
import time
from collections.abc import Callable

import pytest

from stack.deploy.compose import Rollout
from stack.deploy.edge import EDGE, SERVING
from stack.deploy.history import History
from stack.deploy.runner import Runner
from stack.paths import ROOT
from tests.cluster.traffic import ACCOUNTS, Customers, Receiver, accounts, outcome, over_tls

HOST = "api.posthub.work"
TAG = "traffic-test"
OWNERS = 10
# Before and after the rollout, so that a failure at its edges is seen.
CALM_SECONDS = 15
DELIVERY_SECONDS = 180


def _docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)


RUNNING = _docker("inspect", "--format", "{{.State.Status}}", EDGE, *SERVING).stdout.split()

pytestmark = [
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        set(RUNNING) != {"running"},
        reason="production's compose is not running: docker compose -f docker-compose.prod.yml up -d --wait",
    ),
]


def _under_traffic(roll: Callable[[], None]) -> None:
    """No request may fail, and every accepted post must arrive once."""
    (gateway,) = _docker(
        "network", "inspect", "posthub_app_out", "--format", "{{(index .IPAM.Config 0).Gateway}}"
    ).stdout.split()
    with Receiver(gateway) as receiver:
        script = ACCOUNTS.format(number=OWNERS, url=receiver.url)
        made = _docker("exec", "posthub_api_prod", "python", "manage.py", "shell", "-c", script)
        with Customers(over_tls("127.0.0.1", HOST), HOST, accounts(made.stdout)) as customers:
            time.sleep(CALM_SECONDS)
            roll()
            time.sleep(CALM_SECONDS)
        found = outcome(customers, receiver, DELIVERY_SECONDS)
        print(found)
    assert customers.failures == []
    assert found.missing == set()
    assert found.twice == []


def test_nobody_notices_a_rollout_and_a_rollback() -> None:
    runner = Runner(ROOT)
    _under_traffic(Rollout(ROOT, runner, print, TAG, build=True).deploy)
    previous = History(ROOT).previous()
    assert previous is not None, "the version before is known after the first deployment"
    _under_traffic(Rollout(ROOT, runner, print, previous).roll_back)
