"""A small Celery application for the tests' real workers and clients."""

import os
import signal
import time
from typing import Any

from celery import Celery
from celery.exceptions import Ignore, Reject

BROKER = os.environ.get("SHOP_BROKER_URL", "memory://")
# Without a result backend nothing has to be encoded.
app = Celery("shop", broker=BROKER, backend=BROKER if BROKER.startswith("redis") else None)
app.conf.update(
    task_send_sent_event=bool(os.environ.get("SHOP_EVENTS")),
    worker_send_task_events=bool(os.environ.get("SHOP_EVENTS")),
    task_default_queue="default",
    task_routes={"shop.mail": {"queue": "mail"}},
    control_exchange=os.environ.get("SHOP_CONTROL_EXCHANGE", "celery"),
    broker_connection_retry_on_startup=True,
)


@app.task(name="shop.add")
def add() -> int:
    return 3


@app.task(name="shop.mail")
def mail() -> None:
    time.sleep(0.05)


@app.task(name="shop.fail")
def fail() -> None:
    raise ValueError("no such order")


@app.task(name="shop.retry", bind=True, max_retries=1)
def retry(self: Any) -> None:
    raise self.retry(exc=ConnectionError("later"), countdown=0.1)


@app.task(name="shop.reject", bind=True, acks_late=True)
def reject(self: Any) -> None:
    raise Reject("no", requeue=False)


@app.task(name="shop.slow")
def slow() -> None:
    time.sleep(60)


@app.task(name="shop.ignore")
def ignore() -> None:
    raise Ignore


@app.task(name="shop.hard", time_limit=1)
def hard() -> None:
    time.sleep(3)


@app.task(name="shop.soft", soft_time_limit=1)
def soft() -> None:
    time.sleep(3)


@app.task(name="shop.killed")
def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="shop.replace", bind=True)
def replace(self: Any) -> None:
    raise self.replace(add.si())


@app.task(name="shop.unencodable")
def unencodable() -> object:
    return object()


@app.task(name="shop.nap")
def nap() -> None:
    time.sleep(3)


@app.task(name="shop.late", acks_late=True)
def late() -> None:
    time.sleep(3)
