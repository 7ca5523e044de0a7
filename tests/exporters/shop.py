"""A small Celery application for the tests' real workers and clients."""

import os
import time

from celery import Celery
from celery.exceptions import Reject

app = Celery("shop", broker=os.environ.get("SHOP_BROKER_URL", "memory://"))
app.conf.update(
    task_send_sent_event=bool(os.environ.get("SHOP_EVENTS")),
    worker_send_task_events=bool(os.environ.get("SHOP_EVENTS")),
    task_default_queue="default",
    task_routes={"shop.mail": {"queue": "mail"}},
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
