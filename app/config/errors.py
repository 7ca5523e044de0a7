"""Errors that a client can handle: a broken rule is a 409 or a 503, with a stable code."""

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from rest_framework import status
from rest_framework.exceptions import APIException, NotFound
from rest_framework.response import Response
from rest_framework.views import exception_handler


class Conflict(APIException):
    status_code = status.HTTP_409_CONFLICT
    default_code = "conflict"
    default_detail = "The object is not in a state that allows this."


class Unavailable(APIException):
    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "unavailable"
    default_detail = "Temporarily unavailable."


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    if isinstance(error, Http404):
        error = NotFound(*error.args)
    response = exception_handler(error, context)
    if response is not None and isinstance(error, APIException) and isinstance(response.data, dict):
        codes = error.get_codes()
        if isinstance(codes, str) and "detail" in response.data:
            response.data["code"] = codes
    return response


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """The response for an unknown path."""
    return _json(request, 404, NotFound) or defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """The response for an unexpected error. Only the log has the cause."""
    return _json(request, 500, APIException) or defaults.server_error(request)


def _json(request: HttpRequest, code: int, error: type[APIException]) -> JsonResponse | None:
    if not request.path.startswith("/api/"):
        return None
    return JsonResponse({"detail": error.default_detail, "code": error.default_code}, status=code)
