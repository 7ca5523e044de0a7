"""Whether a worker answers a ping through the broker. One that is alive but has lost its broker does not answer."""

from functools import cache

from celery import Celery

from config import redis_url
from config.env import text

# Less than the time limit of deploy/health/answers.py.
SECONDS = 4


@cache
def _app() -> Celery:
    """A separate app, without Django: no process of a worker's pool uses its locks."""
    broker = text("CELERY_BROKER_URL", text("REDIS_URL"))
    app = Celery("health", broker=broker, set_as_current=False)
    app.conf.broker_transport_options = {
        "socket_connect_timeout": 3,
        "socket_timeout": SECONDS,
        **redis_url.transport_options(broker, text("REDIS_SENTINEL_MASTER", "posthub")),
    }
    app.conf.broker_connection_retry = False
    return app


def answers(worker: str) -> bool:
    """Whether the worker with this node name answers in time. Without the broker, it raises an error of kombu or of the client."""
    return bool(_app().control.ping(destination=[worker], timeout=SECONDS, limit=1))
