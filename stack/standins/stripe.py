"""A stand-in for Stripe: the API for subscriptions, the payment pages, and the delivery of events.

It is not Stripe: it takes no card and no money. It follows these pages of docs.stripe.com, as of 2026-10-28 (the API
version of the library, `2026-10-28.endive`):

- /api/errors (the error object and its status codes), /rate-limits and /changelog/2015-09-08 (429, without a code),
  /api/idempotent_requests (the same key and parameters get the same response, with `Idempotent-Replayed`; different
  parameters cause an `idempotency_error`),
- /api/pagination (`limit`, `starting_after`, `has_more`; the newest first), /api/expanding_objects,
- /api/customers and /api/customers/delete (a deleted customer can be retrieved, its subscriptions are cancelled, and
  nothing can be created for it; what listing its subscriptions returns is not documented, see `lists_deleted`),
  /api/checkout/sessions, /api/customer_portal/sessions, /api/subscriptions, /api/prices, /api/events,
- /webhooks/signature (`Stripe-Signature: t=,v1=`, HMAC-SHA256 over `t.body`), /webhooks (after
  any response but 2xx, a delivery is retried with growing pauses; order is not guaranteed).

`python -m stack.standins.stripe --port 8420 --webhook URL --secret whsec_…` runs it. Tests use the class.
"""

import argparse
import hashlib
import hmac
import html
import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Self
from urllib.parse import parse_qsl, urlsplit

import requests

from sidecar.http import session

HOST = "127.0.0.1"
KEY = "sk_test_standin"
PRICE = "price_standin_pro"
SECRET = "whsec_standin"  # noqa: S105 - of the stand-in only
VERSION = "2026-10-28.endive"
MONTH = 30 * 86400
# Seconds between deliveries of an event. Stripe's own pauses grow to hours; these are short enough to watch.
PAUSES = (0.2, 0.5, 1.0, 2.0, 3.0)
ENDED = ("canceled", "incomplete_expired")
Json = dict[str, Any]


class ApiError(Exception):
    """A response with an error object."""

    def __init__(self, status: int, message: str, kind: str = "invalid_request_error", **more: str) -> None:
        super().__init__(message)
        self.status = status
        self.content = {"error": {"message": message, "type": kind, **more}}


@dataclass
class State:
    """The stand-in's data, protected by `lock`."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    customers: dict[str, Json] = field(default_factory=dict)
    sessions: dict[str, Json] = field(default_factory=dict)
    portals: dict[str, Json] = field(default_factory=dict)
    subscriptions: dict[str, Json] = field(default_factory=dict)
    events: dict[str, Json] = field(default_factory=dict)
    answers: dict[str, tuple[str, int, Json]] = field(default_factory=dict)
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def new_id(self, prefix: str) -> str:
        return f"{prefix}_standin{next(self.numbers):06d}"


class StripeStandIn:
    """The server and its deliveries.

    Args:
        key: the secret key that it accepts.
        prices: the prices that exist.
        webhook, secret: the URL that events are sent to, and the key that signs them; without a URL, events can only be listed.
    """

    def __init__(
        self,
        *,
        key: str = KEY,
        prices: Sequence[str] = (PRICE,),
        webhook: str = "",
        secret: str = SECRET,
        port: int = 0,
    ) -> None:
        self.key, self.prices, self.webhook, self.secret = key, tuple(prices), webhook, secret
        self.state = State()
        self.requests: list[tuple[str, str]] = []
        # Forced responses to the next requests: an HTTP status, or 0 to close the connection.
        self.failures: list[int] = []
        # Whether events are delivered as they occur. Tests may deliver them in a different order.
        self.is_delivering = True
        # Whether a deleted customer's subscriptions can be listed; if not, listing them is an error.
        self.lists_deleted = True
        self.deliveries: list[tuple[str, int]] = []
        self._stopped, self._threads = threading.Event(), threading.local()
        self._server = ThreadingHTTPServer((HOST, port), type("Handler", (_Handler,), {"standin": self}))
        self._server.daemon_threads = True
        self.url = f"http://{HOST}:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()

    # What happens at Stripe

    def new_customer(self, **values: Any) -> str:
        with self.state.lock:
            made = {"id": self.state.new_id("cus"), "object": "customer", "created": _now(), **values}
            self.state.customers[made["id"]] = made
            return str(made["id"])

    def subscribe(self, customer: str, *, status: str = "active", price: str = "") -> str:
        """Create a subscription that the customer has paid for. Returns its ID."""
        with self.state.lock:
            made = _subscription(self.state.new_id("sub"), customer, price or self.prices[0], status)
            made["latest_invoice"] = _invoice(self.state.new_id("in"), customer, "paid")
            self.state.subscriptions[made["id"]] = made
            self.record("customer.subscription.created", made)
            self.record("invoice.paid", made["latest_invoice"])
            return str(made["id"])

    def change(self, subscription: str, kind: str = "customer.subscription.updated", **values: Any) -> str:
        """Change a subscription. Returns the ID of the event."""
        with self.state.lock:
            found = self.state.subscriptions[subscription]
            found.update(values)
            return self.record(kind, found)

    def fail_payment(self, subscription: str) -> None:
        """Fail the payment of a renewal: the subscription becomes past due."""
        with self.state.lock:
            customer = self.state.subscriptions[subscription]["customer"]
            invoice = _invoice(self.state.new_id("in"), customer, "open")
            self.change(subscription, status="past_due", latest_invoice=invoice)
            self.record("invoice.payment_failed", invoice)

    def pay(self, subscription: str) -> None:
        """Pay the open invoice."""
        with self.state.lock:
            invoice = {**self.state.subscriptions[subscription]["latest_invoice"], "status": "paid"}
            self.change(subscription, status="active", latest_invoice=invoice)
            self.record("invoice.paid", invoice)

    def cancel(self, subscription: str) -> None:
        self.change(subscription, "customer.subscription.deleted", status="canceled")

    def delete_customer(self, customer: str) -> None:
        with self.state.lock:
            for subscription in self.state.subscriptions.values():
                if subscription["customer"] == customer and subscription["status"] not in ENDED:
                    self.cancel(subscription["id"])
            self.record("customer.deleted", self.state.customers[customer])
            self.state.customers[customer] = {"id": customer, "object": "customer", "deleted": True}

    def complete(self, session: str) -> str:
        """Pay a checkout session. Returns the ID of the subscription."""
        with self.state.lock:
            found = self.state.sessions[session]
            if found["status"] != "open":
                raise ApiError(400, "This session is not open.")
            subscription = self.subscribe(found["customer"], price=found["_price"])
            found.update(status="complete", url=None, subscription=subscription)
            self.record("checkout.session.completed", found)
            return subscription

    def record(self, kind: str, subject: Mapping[str, Any]) -> str:
        """Record an event with a copy of the object as it is now, and deliver it. Returns its ID."""
        with self.state.lock:
            name = self.state.new_id("evt")
            self.state.events[name] = {
                "id": name,
                "object": "event",
                "api_version": VERSION,
                "created": _now(),
                "data": {"object": json.loads(json.dumps(_public(subject)))},
                "livemode": False,
                "pending_webhooks": 1,
                "request": {"id": None, "idempotency_key": None},
                "type": kind,
            }
        if self.webhook and self.is_delivering:
            threading.Thread(target=self.deliver, args=(name,), daemon=True).start()
        return name

    # Deliveries

    def signed(self, name: str, *, age: int = 0) -> tuple[bytes, dict[str, str]]:
        """The body and headers of a delivery."""
        body = json.dumps(self.state.events[name], indent=2).encode()
        return body, {"Content-Type": "application/json", "Stripe-Signature": sign(body, self.secret, age)}

    def deliver(self, name: str) -> bool:
        """Deliver an event repeatedly until it is accepted. Returns whether it was."""
        for pause in itertools.chain(PAUSES, itertools.repeat(PAUSES[-1])):
            status = self._deliver_once(name)
            self.deliveries.append((name, status))
            if 200 <= status < 300:
                return True
            if self._stopped.wait(pause):
                return False
        raise AssertionError("unreachable")

    def _session(self) -> requests.Session:
        """The session of the current thread."""
        if not hasattr(self._threads, "session"):
            self._threads.session = session()
        found: requests.Session = self._threads.session
        return found

    def _deliver_once(self, name: str) -> int:
        body, headers = self.signed(name)
        try:
            return self._session().post(self.webhook, data=body, headers=headers, timeout=10).status_code
        except requests.RequestException:
            return 0

    # The API

    def answer(self, method: str, path: str, values: Json, headers: Mapping[str, str]) -> tuple[int, Json]:
        """The status and content of the response to an API request."""
        if headers.get("Authorization") != f"Bearer {self.key}":
            raise ApiError(401, "Invalid API Key provided: sk_test_****")
        for route_method, pattern, respond in self.ROUTES:
            match = re.fullmatch(pattern, path)
            if match and method == route_method:
                with self.state.lock:
                    return 200, respond(self, *match.groups(), values)
        raise ApiError(404, f"Unrecognized request URL ({method}: {path}).")

    def idempotent(
        self, key: str, values: Json, make: Callable[[], tuple[int, Json]]
    ) -> tuple[int, Json, bool]:
        """The response to a request with an idempotency key, and whether it is the replay of an earlier one."""
        digest = json.dumps(values, sort_keys=True)
        with self.state.lock:
            known = self.state.answers.get(key)
            if known is None:
                status, content = make()
                self.state.answers[key] = (digest, status, content)
                return status, content, False
        if known[0] != digest:
            text = "Keys for idempotent requests can only be used with the same parameters they were first used with."
            raise ApiError(400, text, "idempotency_error")
        return known[1], known[2], True

    def _create_customer(self, values: Json) -> Json:
        return self.state.customers[self.new_customer(email=values.get("email"))]

    def _get_customer(self, name: str, _: Json) -> Json:
        return _found(self.state.customers, name, "customer")

    def _create_session(self, values: Json) -> Json:
        customer = self._customer(values.get("customer", ""))
        price = values.get("line_items", [{}])[0].get("price", "")
        self._get_price(price, {})
        name = self.state.new_id("cs_test")
        made = {
            "id": name,
            "object": "checkout.session",
            "mode": values.get("mode"),
            "customer": customer,
            "status": "open",
            "url": f"{self.url}/pay/{name}",
            "success_url": values["success_url"],
            "cancel_url": values["cancel_url"],
            "subscription": None,
            "expires_at": _now() + 86400,
            "_price": price,
        }
        self.state.sessions[name] = made
        return _public(made)

    def _get_session(self, name: str, _: Json) -> Json:
        return _public(_found(self.state.sessions, name, "checkout.session"))

    def _create_portal(self, values: Json) -> Json:
        customer, name = self._customer(values.get("customer", "")), self.state.new_id("bps")
        self.state.portals[name] = made = {
            "id": name,
            "object": "billing_portal.session",
            "customer": customer,
            "return_url": values.get("return_url"),
            "url": f"{self.url}/portal/{name}",
        }
        return made

    def _get_price(self, name: str, _: Json) -> Json:
        return _found(
            {price: {"id": price, "object": "price", "active": True} for price in self.prices}, name, "price"
        )

    def _get_subscription(self, name: str, values: Json) -> Json:
        return _expanded(
            _found(self.state.subscriptions, name, "subscription"),
            "latest_invoice" in values.get("expand", []),
        )

    def _list_subscriptions(self, values: Json) -> Json:
        customer = values.get("customer")
        if customer is not None and not (self.lists_deleted and customer in self.state.customers):
            self._customer(customer)
        found = [
            _expanded(subscription, "data.latest_invoice" in values.get("expand", []))
            for subscription in self.state.subscriptions.values()
            if customer in (None, subscription["customer"])
            and (values.get("status") == "all" or subscription["status"] not in ENDED)
        ]
        return _page("/v1/subscriptions", found, values)

    def _list_events(self, values: Json) -> Json:
        created, types = values.get("created", {}), values.get("types")
        found = [
            event
            for event in self.state.events.values()
            if int(created.get("gte", 0)) <= event["created"] < int(created.get("lt", _now() + 1))
            and (types is None or event["type"] in types)
        ]
        return _page("/v1/events", found, values)

    def _customer(self, name: str) -> str:
        existing = {
            key: customer for key, customer in self.state.customers.items() if not customer.get("deleted")
        }
        return str(_found(existing, name, "customer", "customer")["id"])

    ROUTES: ClassVar[Sequence[tuple[str, str, Callable[..., Json]]]] = (
        ("POST", "/v1/customers", _create_customer),
        ("GET", "/v1/customers/([^/]+)", _get_customer),
        ("POST", "/v1/checkout/sessions", _create_session),
        ("GET", "/v1/checkout/sessions/([^/]+)", _get_session),
        ("POST", "/v1/billing_portal/sessions", _create_portal),
        ("GET", "/v1/prices/([^/]+)", _get_price),
        ("GET", "/v1/subscriptions/([^/]+)", _get_subscription),
        ("GET", "/v1/subscriptions", _list_subscriptions),
        ("GET", "/v1/events", _list_events),
    )

    # The pages

    def page(self, path: str) -> str | None:
        """The HTML of a page on which a customer pays for or manages a subscription."""
        if path == "/":
            return _html("Nothing to pay", path, ())
        _, kind, name = path.split("/", 2) if path.count("/") == 2 else ("", "", "")
        if kind == "pay" and name in self.state.sessions:
            return _html("Subscribe to PostHub Pro", path, ("pay", "back"))
        if kind == "portal" and name in self.state.portals:
            return _html("Your subscription", path, ("cancel", "fail", "pay", "back"))
        return None

    def act(self, path: str, action: str) -> str | None:
        """Perform the action of a button on a page. Returns the URL to redirect to."""
        _, kind, name = path.split("/", 2) if path.count("/") == 2 else ("", "", "")
        if kind == "pay" and name in self.state.sessions:
            session = self.state.sessions[name]
            if action == "pay" and session["status"] == "open":
                self.complete(name)
            return str(session["success_url" if action == "pay" else "cancel_url"])
        if kind == "portal" and name in self.state.portals:
            portal = self.state.portals[name]
            self._manage(portal["customer"], action)
            return str(portal["return_url"])
        return None

    def _manage(self, customer: str, action: str) -> None:
        do = {"cancel": self.cancel, "fail": self.fail_payment, "pay": self.pay}.get(action)
        own = [
            subscription
            for subscription in self.state.subscriptions.values()
            if subscription["customer"] == customer
        ]
        for subscription in own:
            if do is not None and subscription["status"] not in ENDED:
                do(subscription["id"])


def sign(body: bytes, secret: str, age: int = 0) -> str:
    """The Stripe-Signature header of a body that was signed ``age`` seconds ago."""
    moment = _now() - age
    digest = hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={digest}"


def _now() -> int:
    return int(time.time())


def _subscription(name: str, customer: str, price: str, status: str) -> Json:
    item = {
        "id": f"si_{name}",
        "object": "subscription_item",
        "price": {"id": price, "object": "price"},
        "current_period_start": _now(),
        "current_period_end": _now() + MONTH,
    }
    return {
        "id": name,
        "object": "subscription",
        "customer": customer,
        "status": status,
        "created": _now(),
        "cancel_at": None,
        "cancel_at_period_end": False,
        "items": {"object": "list", "data": [item], "has_more": False, "url": "/v1/subscription_items"},
        "latest_invoice": None,
    }


def _invoice(name: str, customer: str, status: str) -> Json:
    return {"id": name, "object": "invoice", "customer": customer, "status": status, "created": _now()}


def _public(found: Mapping[str, Any]) -> Json:
    return {name: value for name, value in found.items() if not name.startswith("_")}


def _expanded(found: Json, is_expanded: bool) -> Json:
    invoice = found["latest_invoice"]
    return {**found, "latest_invoice": invoice if is_expanded or not invoice else invoice["id"]}


def _found(objects: Mapping[str, Json], name: str, kind: str, param: str = "id") -> Json:
    if name not in objects:
        status = 404 if param == "id" else 400
        raise ApiError(status, f"No such {kind}: '{name}'", code="resource_missing", param=param)
    return objects[name]


def _page(url: str, found: Sequence[Json], values: Json) -> Json:
    newest = list(reversed(found))
    names = [event["id"] for event in newest]
    start = names.index(values["starting_after"]) + 1 if values.get("starting_after") in names else 0
    end = start + min(100, int(values.get("limit", 10)))
    return {"object": "list", "url": url, "has_more": end < len(newest), "data": newest[start:end]}


def parameters(text: str) -> Json:
    """Form parameters as Stripe nests them: `line_items[0][price]=…` and `expand[0]=…`."""
    found: Json = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        parts = re.findall(r"[^\[\]]+", name)
        place = found
        for part in parts[:-1]:
            place = place.setdefault(part, {})
        place[parts[-1]] = value
    return {name: _listed(value) for name, value in found.items()}


def _listed(value: Any) -> Any:
    """Dictionaries with the keys 0, 1, … as lists."""
    if not isinstance(value, dict):
        return value
    inner = {name: _listed(item) for name, item in value.items()}
    return list(inner.values()) if all(name.isdecimal() for name in inner) else inner


def _html(title: str, path: str, actions: Sequence[str]) -> str:
    buttons = "".join(f'<button name="do" value="{name}">{name.title()}</button> ' for name in actions)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Stand-in for Stripe</title>'
        '<link rel="icon" href="data:,">'
        f"<p>This is a stand-in for Stripe. No card, no money.</p><h1>{html.escape(title)}</h1>"
        f'<form method="post" action="{html.escape(path)}">{buttons}</form></html>'
    )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    standin: ClassVar[StripeStandIn]

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        page = self.standin.page(path)
        if page is not None:
            self._send(200, page.encode(), {"Content-Type": "text/html; charset=utf-8"})
            return
        if path == "/favicon.ico":
            self._send(204, b"", {})
            return
        self._api("GET", path, query)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        path = urlsplit(self.path).path
        if not path.startswith("/v1/"):
            target = self.standin.act(path, dict(parse_qsl(body)).get("do", ""))
            self._send(303 if target else 404, b"", {"Location": target} if target else {})
            return
        self._api("POST", path, body)

    def _api(self, method: str, path: str, text: str) -> None:
        self.standin.requests.append((method, path))
        if self.standin.failures:
            status = self.standin.failures.pop(0)
            if not status:
                self.close_connection = True
                return
            limited = {"Stripe-Rate-Limited-Reason": "global-rate"} if status == 429 else {}
            self._json(status, _failure(status), limited)
            return
        try:
            status, content, headers = self._answer(method, path, parameters(text))
        except ApiError as error:
            status, content, headers = error.status, error.content, {}
        self._json(status, content, headers)

    def _answer(self, method: str, path: str, values: Json) -> tuple[int, Json, dict[str, str]]:
        def make() -> tuple[int, Json]:
            return self.standin.answer(method, path, values, self.headers)  # type: ignore[arg-type]  # the headers of a message are a mapping of any case

        key = self.headers.get("Idempotency-Key")
        if method != "POST" or not key:
            return *make(), {}
        status, content, is_replayed = self.standin.idempotent(key, values, make)
        return status, content, {"Idempotent-Replayed": "true"} if is_replayed else {}

    def _json(self, status: int, content: Json, headers: dict[str, str]) -> None:
        more = {"Content-Type": "application/json", "Request-Id": self.standin.state.new_id("req")}
        self._send(status, json.dumps(content).encode(), {**more, **headers})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


def _failure(status: int) -> Json:
    if status == 429:
        return {"error": {"message": "Request rate limit exceeded.", "type": "invalid_request_error"}}
    return {"error": {"message": "An error occurred.", "type": "api_error"}}


def main() -> None:
    parser = argparse.ArgumentParser(description="Run a stand-in for Stripe on this machine.")
    parser.add_argument("--port", type=int, default=8420)
    parser.add_argument("--webhook", default="", help="where events are sent")
    parser.add_argument("--key", default=KEY)
    parser.add_argument("--secret", default=SECRET)
    parser.add_argument("--price", default=PRICE)
    given = parser.parse_args()
    standin = StripeStandIn(
        key=given.key, prices=[given.price], webhook=given.webhook, secret=given.secret, port=given.port
    )
    with standin:
        print(f"stand-in for Stripe on {standin.url}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
