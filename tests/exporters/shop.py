"""A small Celery application for the tests' real workers and clients."""

import os
import signal
import time

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
def add():
    return 3


@app.task(name="shop.mail")
def mail():
    time.sleep(0.05)


@app.task(name="shop.fail")
def fail():
    raise ValueError("no such order")


@app.task(name="shop.retry", bind=True, max_retries=1)
def retry(self):
    raise self.retry(exc=ConnectionError("later"), countdown=0.1)


@app.task(name="shop.reject", bind=True, acks_late=True)
def reject(self):
    raise Reject("no", requeue=False)


@app.task(name="shop.slow")
def slow():
    time.sleep(60)


@app.task(name="shop.ignore")
def ignore():
    raise Ignore


@app.task(name="shop.hard", time_limit=1)
def hard():
    time.sleep(3)


@app.task(name="shop.soft", soft_time_limit=1)
def soft():
    time.sleep(3)


@app.task(name="shop.killed")
def killed():
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="shop.replace", bind=True)
def replace(self):
    raise self.replace(add.si())


@app.task(name="shop.unencodable")
def unencodable():
    return object()


@app.task(name="shop.nap")
def nap():
    time.sleep(3)


@app.task(name="shop.late", acks_late=True)
def late():
    time.sleep(3)
