"""The endpoint that Stripe sends events to. Anyone can call it, so nothing is believed before the signature is checked.

A 2xx response means that the event is stored. Anything else makes Stripe send it again, for up to three days.
Contract: docs.stripe.com/webhooks and docs.stripe.com/webhooks/signature (2026-10).
"""

import json
import logging
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.db import Error
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from accounts.sign_in_limits import client_address
from billing import events
from monitoring.metrics import STRIPE_WEBHOOKS

log = logging.getLogger(__name__)

# Events are a few kB, with long invoices some 100 kB.
MAX_BYTES = 512 * 1024
# Seconds that a signature is valid, by Stripe's recommendation.
TOLERANCE = 300
# Rejected requests of an address in a minute, after which its next ones are not read. Valid ones never count, so that
# Stripe's bursts pass.
MAX_REJECTED = 120


class RejectedError(Exception):
    """The request is not an event that can be stored. `outcome` is the label of the metric and the error's code."""

    def __init__(self, outcome: str, message: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(message)
        self.outcome, self.status = outcome, status


@csrf_exempt
@require_POST
def receive(request: HttpRequest) -> HttpResponse:
    outcome, sender = "internal_error", f"billing:rejected:{client_address(request)}"
    try:
        _throttle(sender)
        outcome = events.store(events.Received.parse(_content(request)), delivered=True)
    except RejectedError as error:
        outcome = error.outcome
        _count(sender)
        return _refused(outcome, str(error), error.status)
    except events.InvalidEventError as error:
        outcome = "invalid"
        return _refused(outcome, str(error), HTTPStatus.BAD_REQUEST)
    except Error:
        outcome = "unavailable"
        log.exception("event not stored, Stripe will send it again")
        return _refused(
            outcome, "The event cannot be stored now. Send it again.", HTTPStatus.SERVICE_UNAVAILABLE
        )
    finally:
        STRIPE_WEBHOOKS.labels(outcome).inc()
    return JsonResponse({"received": True, "outcome": outcome})


def _throttle(sender: str) -> None:
    if cache.get(sender, 0) >= MAX_REJECTED:
        raise RejectedError("throttled", "Too many requests were rejected.", HTTPStatus.TOO_MANY_REQUESTS)


def _count(sender: str) -> None:
    """Without Redis nothing is counted, and all requests are read."""
    cache.add(sender, 0, timeout=60)
    with suppress(ValueError):  # it expired in between
        cache.incr(sender)


def _refused(outcome: str, message: str, status: HTTPStatus) -> JsonResponse:
    log.warning("webhook request rejected", extra={"outcome": outcome})
    return JsonResponse({"detail": message, "code": outcome}, status=status)


def _content(request: HttpRequest) -> Any:
    """The JSON of a request with a valid signature.

    Raises:
        RejectedError: it has none, or the body is too large or not JSON.
    """
    if not settings.STRIPE_WEBHOOK_SECRETS:
        raise RejectedError("not_configured", "Billing is not configured.", HTTPStatus.SERVICE_UNAVAILABLE)
    header = request.headers.get("Stripe-Signature", "")
    if not header:
        raise RejectedError("no_signature", "The header Stripe-Signature is missing.")
    _check_signature(body := _body(request), header)
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise RejectedError("invalid", "The body is not valid JSON.") from None


def _body(request: HttpRequest) -> bytes:
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isdecimal() or int(length) > MAX_BYTES:
        raise RejectedError(
            "too_large", f"The body is larger than {MAX_BYTES} bytes.", HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        )
    try:
        return request.body
    except OSError:  # the sender closed the connection
        raise RejectedError("invalid", "The body is not complete.") from None


def _check_signature(body: bytes, header: str) -> None:
    """Check the header with each secret. During a rotation, Stripe signs with the old and the new one."""
    from stripe import SignatureVerificationError, WebhookSignature  # slow; most processes never need it

    def is_valid(secret: str, tolerance: int | None) -> bool:
        try:
            return bool(WebhookSignature.verify_header(body, header, secret, tolerance))
        # Of the library's own errors, only the first is meant. The body may not be UTF-8, and the signature not ASCII.
        except (SignatureVerificationError, ValueError, TypeError):
            return False

    valid = [secret for secret in settings.STRIPE_WEBHOOK_SECRETS if is_valid(secret, None)]
    if not valid:
        raise RejectedError("bad_signature", "The signature is not valid for this endpoint's secret.")
    if not any(is_valid(secret, TOLERANCE) for secret in valid):
        raise RejectedError("old_timestamp", f"The signature is older than {TOLERANCE} seconds.")
