import logging
import re
import time
import uuid
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from monitoring.logs import request_id

log = logging.getLogger("posthub.request")

Next = Callable[[HttpRequest], HttpResponse]
PROBES = ("/metrics", "/health/", "/api/v1/health/")
SANE_ID = re.compile(r"^[A-Za-z0-9._-]{8,64}$")


class ProbeHostMiddleware:
    """Prometheus and health checks use the service name (`posthub_api_prod:8000`, not a valid host name).

    The content of those pages does not depend on the host, so ALLOWED_HOSTS does not need to contain such names.
    """

    def __init__(self, get_response: Next) -> None:
        self._next = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path in PROBES:
            host = next((host for host in settings.ALLOWED_HOSTS if host != "*"), "localhost")
            request.META["HTTP_HOST"] = host.lstrip(".")
        return self._next(request)


class RequestLogMiddleware:
    """Gives each request an ID for its log lines and tasks, and logs each request except probes."""

    def __init__(self, get_response: Next) -> None:
        self._next = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-ID", "")
        name = given if SANE_ID.match(given) else uuid.uuid4().hex
        token = request_id.set(name)
        start = time.perf_counter()
        try:
            response = self._next(request)
            response["X-Request-ID"] = name
            _log(request, response, time.perf_counter() - start)
            return response
        finally:
            request_id.reset(token)


def _log(request: HttpRequest, response: HttpResponse, seconds: float) -> None:
    if request.path in PROBES and response.status_code < 400:
        return
    level = logging.ERROR if response.status_code >= 500 else logging.INFO
    user = getattr(request, "user", None)
    fields = {
        "method": request.method,
        "path": request.path,
        "status": response.status_code,
        "milliseconds": round(seconds * 1000, 1),
        "user": getattr(user, "pk", None),
    }
    log.log(level, "%s %s %s", request.method, request.path, response.status_code, extra=fields)
