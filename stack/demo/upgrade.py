"""A customer subscribes to the plan pro, on a page of the stand-in for Stripe."""

import time

import requests

from sidecar import OpsError
from sidecar.http import session
from stack.demo.traffic import Customer
from stack.wait import wait_for

LONGEST_WAIT = 120.0
HINT = "read logs/api.log, logs/stripe.log and logs/worker.log"


def upgrade(api: str, customer: Customer) -> float:
    """Pay as a browser would, and wait until the event has arrived and the plan is pro. Returns the seconds.

    Raises:
        OpsError: the API refused, or the plan did not change in time.
    """
    with session() as own, session() as browser:
        own.headers["Authorization"] = f"Token {customer.token}"
        try:
            answer = own.post(f"{api}/api/v1/billing/checkout/", timeout=60)
            answer.raise_for_status()
            paid = time.monotonic()
            # The token stays here: the page belongs to another site.
            browser.post(answer.json()["url"], data={"do": "pay"}, allow_redirects=False, timeout=60)
        except requests.RequestException as error:
            raise OpsError(f"{customer.username} could not subscribe: {error}", hint=HINT) from error
        wait_for(
            lambda: _is_pro(own, api),
            timeout=LONGEST_WAIT,
            what=f"the plan of {customer.username}",
            hint=HINT,
        )
    return time.monotonic() - paid


def _is_pro(own: requests.Session, api: str) -> bool:
    try:
        return bool(own.get(f"{api}/api/v1/me/", timeout=60).json()["plan"] == "paid")
    except requests.RequestException:
        return False
