"""A small Celery application for the tests' real workers and clients."""

import os
import signal
import time
from typing import Any

import redis
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


def announce(task: Any) -> None:
    """Notify the test that this task is running: some pools send no event while it does."""
    with redis.Redis.from_url(BROKER) as client:
        client.set(f"runs:{task.request.id}", 1)


def is_redelivered(task: Any) -> bool:
    return bool(task.request.delivery_info.get("redelivered"))


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


@app.task(name="shop.crashed", bind=True, acks_late=True, reject_on_worker_lost=True)
def crashed(self: Any) -> None:
    if not is_redelivered(self):
        os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="shop.replacement")
def replacement() -> None:
    pass


@app.task(name="shop.replaced", bind=True)
def replaced(self: Any) -> None:
    raise self.replace(replacement.si())


@app.task(name="shop.expired")
def expired() -> None:
    pass


@app.task(name="shop.revoked")
def revoked() -> None:
    pass


@app.task(name="shop.recalled")
def recalled() -> None:
    pass


@app.task(name="shop.terminated", bind=True)
def terminated(self: Any) -> None:
    announce(self)
    time.sleep(4)


@app.task(name="shop.redelivered", bind=True, acks_late=True)
def redelivered(self: Any) -> None:
    if not is_redelivered(self):
        announce(self)
        time.sleep(4)


@app.task(name="shop.lost", bind=True)
def lost(self: Any) -> None:
    announce(self)
    time.sleep(60)


@app.task(name="shop.cold", bind=True, acks_late=True)
def cold(self: Any) -> None:
    announce(self)
    time.sleep(4)


@app.task(name="shop.warm", bind=True)
def warm(self: Any) -> None:
    announce(self)
    time.sleep(3)


@app.task(name="shop.unencodable")
def unencodable() -> object:
    return object()


@app.task(name="shop.nap")
def nap() -> None:
    time.sleep(3)


@app.task(name="shop.late", acks_late=True)
def late() -> None:
    time.sleep(3)
