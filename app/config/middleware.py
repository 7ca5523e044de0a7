"""The project's middleware, in addition to Django's own."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from rest_framework.exceptions import APIException

Next = Callable[[HttpRequest], HttpResponse]

ADMIN = "/admin/"
# Django's admin has no inline scripts or styles.
POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)


class AdminContentSecurityPolicyMiddleware:
    """Lets pages of the admin load only this site's own files."""

    def __init__(self, get_response: Next) -> None:
        self._next = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self._next(request)
        if request.path.startswith(ADMIN):
            response.headers.setdefault("Content-Security-Policy", POLICY)
        return response


class ApiErrorMiddleware:
    """Handles API exceptions raised outside the API's views, such as the rate limit on the admin's sign-in."""

    def __init__(self, get_response: Next) -> None:
        self._next = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self._next(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not isinstance(exception, APIException):
            return None
        response = HttpResponse(
            str(exception.detail), content_type="text/plain; charset=utf-8", status=exception.status_code
        )
        wait = getattr(exception, "wait", None)
        if wait is not None:
            response.headers["Retry-After"] = str(wait)
        return response
