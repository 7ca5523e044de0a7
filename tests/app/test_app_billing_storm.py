"""Events in any order and twice, while the database is unavailable: with gunicorn and a worker as in production.

STORM_EVENTS=1000 tries more of them, with a longer outage.
"""

import json
import math
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import psycopg
import pytest

from stack.ports import choose
from stack.servers import Postgres, Redis
from stack.servers.service import Service
from stack.standins.stripe import ENDED, StripeStandIn
from stack.wait import wait_for

CUSTOMERS = 40
EVENTS = int(os.environ.get("STORM_EVENTS", "300"))
OUTAGE_SECONDS = EVENTS / 50
ROUND = 50
# Deliveries that may be under way: the outage comes in the middle of them, and not before the first one has arrived.
BACKLOG = 60
# Counts each change of an event's state, so that an event that is handled twice is seen.
AUDIT = """
CREATE TABLE handled (id text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO handled VALUES (NEW.id); RETURN NEW; END $$;
CREATE TRIGGER note AFTER UPDATE OF status ON billing_event FOR EACH ROW
  WHEN (NEW.status = 'handled') EXECUTE FUNCTION note();
"""


@pytest.fixture(scope="module")
def storm(
    redis_server: Redis, app_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator["Storm"]:
    folder = tmp_path_factory.mktemp("storm")
    broker = redis_server.url.rsplit("/", 1)[0] + "/4"
    with Postgres(folder / "postgres") as database, StripeStandIn() as stripe:
        found = Storm(folder, app_folder, database, broker, stripe)
        try:
            found.start()
            yield found
        finally:
            found.kill()


class Storm:
    """The API and one worker, with a separate database that can be stopped."""

    def __init__(
        self, folder: Path, app: Path, database: Postgres, broker: str, stripe: StripeStandIn
    ) -> None:
        self.app, self.database, self.stripe = app, database, stripe
        self.env = {
            "PATH": os.environ["PATH"],
            "TMPDIR": str(folder),
            "DJANGO_SETTINGS_MODULE": "config.settings.development",
            "DEBUG": "false",
            "DATABASE_URL": database.url,
            "REDIS_URL": broker,
            "CELERY_BROKER_URL": broker,
            "STRIPE_API_BASE": stripe.url,
            "STRIPE_SECRET_KEY": stripe.key,
            "STRIPE_PRICE_PRO": stripe.prices[0],
            "STRIPE_WEBHOOK_SECRET": stripe.secret,
            "BILLING_BACKOFF": "0.5",
            "LOG_LEVEL": "WARNING",
        }
        port = choose()
        self.api = Service(
            "api",
            (
                sys.executable,
                "-m",
                "gunicorn",
                "-b",
                f"127.0.0.1:{port}",
                "-w",
                "2",
                "config.wsgi:application",
            ),
            folder=folder,
            env=self.env,
            cwd=app,
            port=port,
            ready="/health/",
        )
        self.worker = Service(
            "worker",
            (sys.executable, "-m", "celery", "-A", "config", "worker", "-Q", "default", "--concurrency=2"),
            folder=folder,
            env=self.env,
            cwd=app,
        )
        stripe.webhook, stripe.is_delivering = f"http://127.0.0.1:{port}/api/v1/billing/webhook/", False

    def start(self) -> None:
        with ThreadPoolExecutor() as pool:
            # The worker needs the tables only when there is an event.
            worker = pool.submit(self.worker.start)
            done = subprocess.run(
                [sys.executable, "manage.py", "migrate", "-v0"],
                cwd=self.app,
                env=self.env,
                capture_output=True,
            )
            assert done.returncode == 0, done.stderr
            self.query(AUDIT)
            self.api.start()
            worker.result()

    def kill(self) -> None:
        self.api.kill()
        self.worker.kill()

    def query(self, text: str, *values: Any) -> list[Any]:
        with psycopg.connect(self.database.url, autocommit=True) as connection:
            found = connection.execute(text, values or None)
            return found.fetchall() if found.description else []

    def customer(self, number: int) -> str:
        """A user with a customer, as the checkout leaves them."""
        name = self.stripe.new_customer()
        self.query(
            "WITH made AS (INSERT INTO accounts_user (username, password, is_superuser, is_staff, is_active, "
            "first_name, last_name, email, date_joined, plan) "
            "VALUES (%s, '', false, false, true, '', '', '', now(), 'free') RETURNING id) "
            "INSERT INTO billing_account (id, user_id, customer_id, checkout_id, complimentary, revision, created_at) "
            "SELECT gen_random_uuid(), id, %s, '', false, 0, now() FROM made",
            f"user{number}",
            name,
        )
        return name


def change(stripe: StripeStandIn, subscription: str, chance: random.Random) -> None:
    """What customers and their banks do."""
    state = stripe.state.subscriptions[subscription]
    if state["status"] in ENDED:
        stripe.subscribe(state["customer"])
    elif state["status"] == "past_due":
        chance.choice((stripe.pay, stripe.cancel))(subscription)
    elif chance.random() < 0.4:
        stripe.fail_payment(subscription)
    else:
        stripe.change(subscription, cancel_at_period_end=chance.random() < 0.5)


def test_every_subscription_ends_as_in_stripe(storm: Storm) -> None:
    stripe, chance = storm.stripe, random.Random(24)
    for number in range(CUSTOMERS):
        stripe.subscribe(storm.customer(number))
    sent: list[Future[bool]] = []
    outage = threading.Thread(target=interrupt, args=(storm.database,))
    with ThreadPoolExecutor(16) as pool:
        known, open_deliveries = 0, set[Future[bool]]()
        while known < len(stripe.state.events) or len(stripe.state.events) < EVENTS:
            # The subscriptions change while earlier events are on their way.
            while len(stripe.state.events) < min(EVENTS, known + ROUND):
                change(stripe, chance.choice(list(stripe.state.subscriptions)), chance)
            new = list(stripe.state.events)[known:]
            known += len(new)
            batch = new + chance.sample(new, math.ceil(len(new) / 3))
            chance.shuffle(batch)
            sent += [pool.submit(stripe.deliver, name) for name in batch]
            open_deliveries |= set(sent[-len(batch) :])
            while len(open_deliveries) > BACKLOG:
                open_deliveries = wait(open_deliveries, return_when=FIRST_COMPLETED).not_done
            if known >= EVENTS // 2 and outage.ident is None:
                accepted = sum(status == 200 for _, status in list(stripe.deliveries))
                assert EVENTS * 0.4 < accepted < EVENTS, "the outage is not in the middle"
                outage.start()
    assert all(one.result() for one in sent)
    outage.join()
    assert len(sent) >= EVENTS * 4 // 3

    pending = "SELECT count(*) FROM billing_event WHERE status = 'pending'"
    wait_for(
        lambda: storm.query(pending) == [(0,)], timeout=120, what="all events handled", hint="read worker.log"
    )
    states = {name: one["status"] for name, one in stripe.state.subscriptions.items()}
    assert dict(storm.query("SELECT id, status FROM billing_subscription")) == states
    plans = dict(
        storm.query("SELECT customer_id, plan FROM billing_account a JOIN accounts_user u ON u.id = user_id")
    )
    assert plans == {
        customer: "paid"
        if any(is_paid(one, customer) for one in stripe.state.subscriptions.values())
        else "free"
        for customer in stripe.state.customers
    }
    assert sorted(storm.query("SELECT id FROM handled")) == sorted((name,) for name in stripe.state.events)
    refused = [status for _, status in stripe.deliveries if status != 200]
    assert refused, "the outage was never seen"
    assert set(refused) <= {503, 0}, json.dumps(sorted(set(refused)))


def interrupt(database: Postgres) -> None:
    database.stop()
    time.sleep(OUTAGE_SECONDS)
    database.start()


def is_paid(subscription: dict[str, Any], customer: str) -> bool:
    return subscription["customer"] == customer and subscription["status"] in ("active", "past_due")
