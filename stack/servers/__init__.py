"""The real servers of the embedded stack, each a context manager with its own folder."""

from stack.servers.alertmanager import Alertmanager
from stack.servers.base import Server
from stack.servers.objectstore import ObjectStore
from stack.servers.postgres import Postgres
from stack.servers.prometheus import Prometheus
from stack.servers.rabbitmq import RabbitMq
from stack.servers.redis import Redis
from stack.servers.service import Service

__all__ = ["Alertmanager", "ObjectStore", "Postgres", "Prometheus", "RabbitMq", "Redis", "Server", "Service"]
