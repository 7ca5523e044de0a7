"""Stripe checks: complete settings, and a harmless request with the key."""

from collections.abc import Iterator

import requests

from sidecar.http import outside_session
from stack.doctor.check import Case, Check

API = "https://api.stripe.com"
NAMES = ("STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "STRIPE_PRICE_PRO")
SECONDS = 10


def examine(case: Case) -> Iterator[Check]:
    given = [name for name in NAMES if case.settings.get(name)]
    if not given:
        return
    if missing := [name for name in NAMES if name not in given]:
        yield Check("stripe", False, f"{', '.join(missing)} missing", "docs/app.md, Billing, lists the three")
        return
    yield from _prices(case)
    if "_test_" in case.settings["STRIPE_SECRET_KEY"][:8]:
        yield Check("stripe mode", None, "the key is for tests", "use sk_live_… or rk_live_… to be paid")


def _prices(case: Case) -> Iterator[Check]:
    """Whether the key may read each price: the request changes nothing."""
    for price in case.settings["STRIPE_PRICE_PRO"].split(","):
        yield _price(case.settings["STRIPE_SECRET_KEY"], price.strip())


def _price(key: str, price: str) -> Check:
    try:
        with outside_session() as http:
            headers = {"Authorization": f"Bearer {key}"}
            answer = http.get(f"{API}/v1/prices/{price}", headers=headers, timeout=SECONDS)
            is_active = answer.status_code == 200 and answer.json().get("active") is True
    except (requests.RequestException, ValueError) as error:
        return Check(
            "stripe",
            False,
            f"does not answer ({type(error).__name__})",
            "check the network, then status.stripe.com",
        )
    if is_active:
        return Check("stripe", True, f"{price} can be sold")
    detail, fix = {
        200: (f"{price} is not active", "activate the price, or choose another"),
        401: ("STRIPE_SECRET_KEY is not accepted", "copy the key again, from the dashboard"),
        403: (
            "STRIPE_SECRET_KEY may not read prices",
            "docs/app.md, Billing, lists the permissions of the key",
        ),
        404: (f"{price} does not exist", "use the price and the key of one mode: test or live"),
    }.get(answer.status_code, (f"answered {answer.status_code}", "try again later"))
    return Check("stripe", False, detail, fix)
