"""Plans, subscriptions and events, against a stand-in for Stripe."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts.models import User
from billing import checkout, client, events, reconciliation, synchronization
from billing.errors import RefusedError, TryLaterError
from billing.models import Account, Event, Reconciliation, Subscription
from billing.plans import Terms, is_pro
from billing.tasks import handle_event
from stack.standins.stripe import StripeStandIn, sign

WEBHOOK = "/api/v1/billing/webhook/"
NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def stripe(settings: Any, db: None) -> Iterator[StripeStandIn]:
    with StripeStandIn() as standin:
        settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE = standin.key, standin.url
        settings.STRIPE_PRICES, settings.STRIPE_WEBHOOK_SECRETS = list(standin.prices), [standin.secret]
        settings.STRIPE_TIMEOUT, settings.FRONTEND_URL = 5, "https://posthub.work"
        yield standin


@pytest.fixture
def customer(stripe: StripeStandIn, user: Any) -> str:
    """The user's customer, as the checkout creates it."""
    checkout.subscribe(user)
    return str(Account.objects.get(user=user).customer_id)


@pytest.fixture
def deliver(stripe: StripeStandIn, messages: Any, run_on_commit: Any) -> Callable[..., Any]:
    """Send events to the webhook and run their tasks, in this order. Without ids: all events, oldest first."""

    def deliver(*names: str) -> list[str]:
        outcomes = []
        for name in names or tuple(stripe.state.events):
            with run_on_commit():
                outcomes.append(post(*stripe.signed(name)).json()["outcome"])
        for message in messages("default"):
            if message.task == "billing.tasks.handle_event":
                with run_on_commit():
                    handle_event.apply(args=message.args, throw=True)
        return outcomes

    return deliver


def post(body: bytes, headers: dict[str, str]) -> Any:
    signature = (
        {"HTTP_STRIPE_SIGNATURE": headers["Stripe-Signature"]} if "Stripe-Signature" in headers else {}
    )
    return Client().post(WEBHOOK, body, content_type="application/json", **signature)  # type: ignore[arg-type]


def plan_of(user: Any) -> str:
    return str(User.objects.get(pk=user.pk).plan)


class TestPlan:
    TERMS = Terms(frozenset({"price_pro"}), timedelta(days=7))

    @pytest.mark.parametrize(
        ("status", "since", "pro"),
        [
            ("active", None, True),
            ("trialing", None, True),
            ("past_due", NOW - timedelta(days=6), True),
            ("past_due", NOW - timedelta(days=7), False),
            ("past_due", None, False),
            ("unpaid", None, False),
            ("canceled", None, False),
            ("incomplete", None, False),
            ("incomplete_expired", None, False),
            ("paused", None, False),
            ("a state of the future", None, False),
        ],
    )
    def test_the_status_decides(self, status: str, since: datetime | None, pro: bool) -> None:
        one = SimpleNamespace(status=status, prices=["price_pro"], past_due_since=since)
        assert is_pro([one], self.TERMS, NOW, complimentary=False) is pro

    def test_another_product_gives_nothing(self) -> None:
        one = SimpleNamespace(status="active", prices=["price_other"], past_due_since=None)
        assert not is_pro([one], self.TERMS, NOW, complimentary=False)
        assert is_pro([one], self.TERMS, NOW, complimentary=True)


class TestCheckout:
    def test_a_customer_subscribes_on_stripes_page(
        self, api: Any, user: Any, stripe: StripeStandIn, deliver: Any
    ) -> None:
        url = api.post("/api/v1/billing/checkout/").json()["url"]
        session = url.rsplit("/", 1)[1]
        found = stripe.state.sessions[session]
        assert found["success_url"] == "https://posthub.work/account?billing=success"
        assert plan_of(user) == "free"
        stripe.complete(session)
        assert plan_of(user) == "free"
        deliver()
        assert plan_of(user) == "paid"
        billing = api.get("/api/v1/me/").json()["billing"]
        assert billing["status"] == "active"
        assert billing["manageable"]
        assert not billing["payment_failed"]

    def test_two_clicks_open_one_session(self, user: Any, stripe: StripeStandIn) -> None:
        assert checkout.subscribe(user) == checkout.subscribe(user)
        assert len(stripe.state.sessions) == len(stripe.state.customers) == 1

    @pytest.mark.django_db(transaction=True)
    def test_requests_at_the_same_time_open_one_session(self, user: Any, stripe: StripeStandIn) -> None:
        barrier = threading.Barrier(4)

        def subscribe(_: int) -> str:
            try:
                barrier.wait(20)
                return checkout.subscribe(User.objects.get(pk=user.pk))
            finally:
                connection.close()

        with ThreadPoolExecutor(4) as pool:
            urls = set(pool.map(subscribe, range(4)))
        assert len(urls) == len(stripe.state.sessions) == len(stripe.state.customers) == 1

    def test_a_session_that_expired_is_replaced(self, user: Any, stripe: StripeStandIn) -> None:
        first = checkout.subscribe(user)
        stripe.state.sessions[first.rsplit("/", 1)[1]].update(status="expired", url=None)
        assert checkout.subscribe(user) != first

    def test_nobody_subscribes_twice_before_the_event_has_arrived(
        self, api: Any, user: Any, stripe: StripeStandIn
    ) -> None:
        url = api.post("/api/v1/billing/checkout/").json()["url"]
        stripe.complete(url.rsplit("/", 1)[1])
        answer = api.post("/api/v1/billing/checkout/")
        assert (answer.status_code, answer.json()["code"]) == (409, "already_subscribed")
        assert plan_of(user) == "paid"

    def test_the_request_chooses_nothing(
        self, api: Any, user: Any, stripe: StripeStandIn, make_user: Any
    ) -> None:
        other = make_user("eve")
        checkout.subscribe(other)
        theirs = Account.objects.get(user=other).customer_id
        wanted = {"plan": "paid", "price": "price_cheap", "customer": theirs, "customer_id": theirs}
        for path in ("billing/checkout/", "billing/portal/"):
            api.post(f"/api/v1/{path}", wanted, format="json")
        mine = Account.objects.get(user=user)
        assert mine.customer_id != theirs
        assert {one["_price"] for one in stripe.state.sessions.values()} == set(stripe.prices)
        assert [one["customer"] for one in stripe.state.portals.values()] == [mine.customer_id]
        assert api.patch("/api/v1/me/", {"plan": "paid"}, format="json").status_code == 405
        assert plan_of(user) == "free"

    def test_the_portal_needs_a_customer(self, api: Any, stripe: StripeStandIn) -> None:
        answer = api.post("/api/v1/billing/portal/")
        assert (answer.status_code, answer.json()["code"]) == (409, "no_subscription")

    def test_without_configuration(self, api: Any, settings: Any) -> None:
        for path in ("billing/checkout/", "billing/portal/"):
            answer = api.post(f"/api/v1/{path}")
            assert (answer.status_code, answer.json()["code"]) == (503, "no_billing")
        assert not api.get("/api/v1/me/").json()["billing"]["offered"]

    @pytest.mark.parametrize(
        ("failures", "outcome"),
        [
            ([429], "rate_limited"),
            ([500, 500], "server_error"),
            ([0, 0], "connection_error"),
            ([400], "rejected"),
        ],
    )
    def test_stripe_fails(
        self, api: Any, stripe: StripeStandIn, counter: Any, failures: list[int], outcome: str
    ) -> None:
        labels = {"operation": "create_customer", "outcome": outcome}
        before = counter("posthub_stripe_requests_total", **labels)
        stripe.failures[:] = failures
        answer = api.post("/api/v1/billing/checkout/")
        assert (answer.status_code, answer.json()["code"]) == (503, "billing_unavailable")
        assert counter("posthub_stripe_requests_total", **labels) == before + 1

    def test_a_wrong_key_is_not_shown(self, api: Any, stripe: StripeStandIn, settings: Any) -> None:
        settings.STRIPE_SECRET_KEY = "sk_test_another"
        answer = api.post("/api/v1/billing/checkout/")
        assert answer.status_code == 503
        assert "sk_test" not in answer.content.decode()

    def test_no_one_is_let_in_without_signing_in(self, stripe: StripeStandIn) -> None:
        for path in ("checkout", "portal"):
            assert Client().post(f"/api/v1/billing/{path}/").status_code == 401


class TestWebhook:
    def test_events_are_stored_once_and_without_content(
        self, customer: str, stripe: StripeStandIn, deliver: Any, counter: Any
    ) -> None:
        stripe.subscribe(customer)
        first, second = stripe.state.events
        before = counter("posthub_stripe_event_lag_seconds_count") or 0
        assert deliver(first, first, second, first) == ["accepted", "duplicate", "accepted", "duplicate"]
        assert set(Event.objects.values_list("pk", "status")) == {(first, "handled"), (second, "handled")}
        assert {field.name for field in Event._meta.fields} == {
            *("id", "type", "customer_id", "status", "error", "created_at", "received_at"),
            *("delivered_at", "sent_at", "handled_at"),
        }
        assert handle_event.apply(args=(first,)).result == "nothing to do"
        assert counter("posthub_stripe_event_lag_seconds_count") == before + 2

    def test_the_order_of_arrival_does_not_matter(
        self, customer: str, user: Any, stripe: StripeStandIn, deliver: Any
    ) -> None:
        name = stripe.subscribe(customer)
        stripe.cancel(name)
        *_, created, _paid, deleted = stripe.state.events
        deliver(deleted)
        deliver(created)
        assert Subscription.objects.get().status == "canceled"
        assert plan_of(user) == "free"

    def test_an_unknown_type_is_recorded_and_ignored(
        self, customer: str, stripe: StripeStandIn, deliver: Any, messages: Any
    ) -> None:
        name = stripe.record("entitlements.of.the.future", {"id": "x", "customer": customer})
        assert deliver(name) == ["ignored"]
        assert Event.objects.get(pk=name).status == "ignored"
        assert messages("default") == []

    def test_an_unknown_customer_is_ignored(self, stripe: StripeStandIn, user: Any, deliver: Any) -> None:
        """Also one that claims to be a user: metadata assigns nothing."""
        stranger = stripe.new_customer(metadata={"posthub_user": str(user.pk)}, email=user.email)
        stripe.subscribe(stranger)
        deliver()
        assert set(Event.objects.values_list("status", "error")) == {
            ("ignored", "no account has this customer")
        }
        assert plan_of(user) == "free"

    @pytest.mark.parametrize(
        ("change", "status", "code"),
        [
            (lambda body, headers: (body, {}), 400, "no_signature"),
            (lambda body, headers: (body + b" ", headers), 400, "bad_signature"),
            (lambda body, headers: (body, {"Stripe-Signature": "nonsense"}), 400, "bad_signature"),
            (lambda body, headers: (body, {"Stripe-Signature": "t=1,v1=ff"}), 400, "bad_signature"),
            (lambda body, headers: (body, {"Stripe-Signature": "t=1,v1=\xe9"}), 400, "bad_signature"),
            (
                lambda body, headers: (body, {"Stripe-Signature": f"t={'9' * 5000},v1=ff"}),
                400,
                "bad_signature",
            ),
            (lambda body, headers: (body, only_v0(headers)), 400, "bad_signature"),
            (lambda body, headers: (body, signature(body, secret="whsec_other")), 400, "bad_signature"),
            (lambda body, headers: (b"\xff", signature(b"\xff")), 400, "bad_signature"),
            (lambda body, headers: (body, signature(body, age=301)), 400, "old_timestamp"),
            (lambda body, headers: (b"x" * 600_000, headers), 413, "too_large"),
            (lambda body, headers: (b"{", signature(b"{")), 400, "invalid"),
            (lambda body, headers: (b"[" * 100_000, signature(b"[" * 100_000)), 400, "invalid"),
            (lambda body, headers: (b"[]", signature(b"[]")), 400, "invalid"),
            (lambda body, headers: resigned(body, id=7), 400, "invalid"),
            (lambda body, headers: resigned(body, id="e" * 256), 400, "invalid"),
            (lambda body, headers: resigned(body, id="a\x00b"), 400, "invalid"),
            (lambda body, headers: resigned(body, created="now"), 400, "invalid"),
            (lambda body, headers: resigned(body, created=10**30), 400, "invalid"),
            (lambda body, headers: resigned(body, object="v2.core.event"), 400, "invalid"),
        ],
    )
    def test_bad_requests(
        self, customer: str, stripe: StripeStandIn, counter: Any, change: Any, status: int, code: str
    ) -> None:
        stripe.subscribe(customer)
        labels = {"outcome": code}
        before = counter("posthub_stripe_webhook_requests_total", **labels)
        answer = post(*change(*stripe.signed(next(iter(stripe.state.events)))))
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.json()["detail"].endswith(".")
        assert counter("posthub_stripe_webhook_requests_total", **labels) == before + 1
        assert not Event.objects.exists()

    def test_odd_contents_are_stored_without_a_customer(self, stripe: StripeStandIn, deliver: Any) -> None:
        contents: list[Any] = [None, [], {"object": None}, {"object": {"customer": {"id": 3}}}]
        for content in contents:
            body, _ = resigned(
                json.dumps({"object": "event", "created": 1, "type": "invoice.paid"}).encode(),
                id=f"evt_{content}".replace(" ", ""),
                data=content,
            )
            assert post(body, signature(body)).json()["outcome"] == "accepted"
        assert set(Event.objects.values_list("customer_id", flat=True)) == {""}

    def test_the_same_id_with_another_content_changes_nothing(
        self, customer: str, user: Any, stripe: StripeStandIn, deliver: Any
    ) -> None:
        stripe.subscribe(customer)
        deliver()
        name = next(iter(stripe.state.events))
        before = Event.objects.filter(pk=name).values().get()
        body, _ = stripe.signed(name)
        forged = resigned(
            body, type="customer.subscription.deleted", data={"object": {"customer": "cus_other"}}
        )
        assert post(*forged).json()["outcome"] == "duplicate"
        assert Event.objects.filter(pk=name).values().get() == before
        assert plan_of(user) == "paid"

    def test_one_valid_signature_among_several_is_enough(self, customer: str, stripe: StripeStandIn) -> None:
        """As in a rotation of the secret, and with the v0 that Stripe adds in test mode."""
        stripe.subscribe(customer)
        body, headers = stripe.signed(next(iter(stripe.state.events)))
        moment, right = headers["Stripe-Signature"].split(",")
        several = {"Stripe-Signature": f"{moment},v1={'0' * 64},{right},v0={'0' * 64}"}
        assert post(body, several).json()["outcome"] == "accepted"

    def test_both_secrets_of_a_rotation_are_valid(
        self, customer: str, stripe: StripeStandIn, settings: Any
    ) -> None:
        settings.STRIPE_WEBHOOK_SECRETS = ["whsec_new", stripe.secret]
        stripe.subscribe(customer)
        for name, secret in zip(stripe.state.events, ("whsec_new", stripe.secret), strict=True):
            body, _ = stripe.signed(name)
            assert post(body, signature(body, secret=secret)).status_code == 200

    def test_many_rejected_requests_are_throttled_and_valid_ones_never(
        self, customer: str, stripe: StripeStandIn, messages: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("billing.webhook.MAX_REJECTED", 3)
        name = stripe.record("invoice.paid", {"id": "in_1", "customer": customer})
        assert {post(*stripe.signed(name)).status_code for _ in range(5)} == {200}
        assert [post(b"x", {}).status_code for _ in range(5)] == [400, 400, 400, 429, 429]

    def test_without_a_secret_nothing_is_accepted(self, settings: Any, counter: Any) -> None:
        settings.STRIPE_WEBHOOK_SECRETS = []
        answer = post(b"{}", signature(b"{}", secret=""))
        assert (answer.status_code, answer.json()["code"]) == (503, "not_configured")

    def test_only_posts(self, stripe: StripeStandIn) -> None:
        assert Client().get(WEBHOOK).status_code == 405

    def test_without_the_database_stripe_must_send_it_again(
        self, customer: str, stripe: StripeStandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from django.db import OperationalError

        def fail(*_: Any, **__: Any) -> str:
            raise OperationalError("the password is in here")

        monkeypatch.setattr("billing.events.store", fail)
        stripe.subscribe(customer)
        answer = post(*stripe.signed(next(iter(stripe.state.events))))
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert "password" not in answer.content.decode()


def signature(body: bytes, *, secret: str = "whsec_standin", age: int = 0) -> dict[str, str]:
    return {"Stripe-Signature": sign(body, secret, age)}


def only_v0(headers: dict[str, str]) -> dict[str, str]:
    """The right signature in the scheme that Stripe uses for tests only, and that must not be accepted."""
    return {"Stripe-Signature": headers["Stripe-Signature"].replace("v1=", "v0=")}


def resigned(body: bytes, **changes: Any) -> tuple[bytes, dict[str, str]]:
    changed = json.dumps(json.loads(body) | changes).encode()
    return changed, signature(changed)


class TestSynchronization:
    def test_an_older_reading_never_replaces_a_newer_one(
        self, customer: str, user: Any, stripe: StripeStandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another task reads and stores a newer state while the first one has an older answer in its hands."""
        name = stripe.subscribe(customer)
        account = Account.objects.get(user=user)
        real, calls = client.subscriptions, []

        def overtaken(wanted: str) -> Any:
            answer = real(wanted)
            calls.append(wanted)
            if len(calls) == 1:
                stripe.cancel(name)
                synchronization.synchronize(account)
            return answer

        monkeypatch.setattr("billing.client.subscriptions", overtaken)
        synchronization.synchronize(account)
        assert Subscription.objects.get().status == "canceled"
        assert plan_of(user) == "free"
        assert len(calls) == 3

    def test_tasks_that_never_agree_try_again_later(
        self, customer: str, user: Any, stripe: StripeStandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = client.subscriptions

        def always_overtaken(wanted: str) -> Any:
            found = real(wanted)
            account = Account.objects.get(user=user)
            Account.objects.filter(pk=account.pk).update(revision=account.revision + 1)
            return found

        monkeypatch.setattr("billing.client.subscriptions", always_overtaken)
        with pytest.raises(TryLaterError, match="kept changing"):
            synchronization.synchronize(Account.objects.get(user=user))

    def test_an_event_stays_pending_until_stripe_answers(
        self, customer: str, user: Any, stripe: StripeStandIn, deliver: Any
    ) -> None:
        from celery.exceptions import Retry

        stripe.subscribe(customer)
        stripe.failures[:] = [500, 500]
        with pytest.raises((Retry, TryLaterError)):
            deliver(next(iter(stripe.state.events)))
        event = Event.objects.get()
        assert (event.status, event.error) == ("pending", "Stripe answered 500")
        assert events.handle(event.pk) == "handled"
        assert plan_of(user) == "paid"

    def test_a_refused_event_is_sent_again_by_housekeeping(
        self,
        customer: str,
        stripe: StripeStandIn,
        deliver: Any,
        settings: Any,
        messages: Any,
        run_on_commit: Any,
    ) -> None:
        stripe.subscribe(customer)
        settings.STRIPE_SECRET_KEY = "sk_test_wrong"
        with pytest.raises(RefusedError, match="STRIPE_SECRET_KEY"):
            deliver(next(iter(stripe.state.events)))
        assert events.resend() == 0
        Event.objects.update(sent_at=timezone.now() - timedelta(hours=1))
        assert events.resend() == 1
        assert [message.task for message in messages("default")] == ["billing.tasks.handle_event"] * 2

    def test_a_failed_payment_has_a_grace_period(
        self, api: Any, customer: str, user: Any, stripe: StripeStandIn, deliver: Any, settings: Any
    ) -> None:
        name = stripe.subscribe(customer)
        stripe.fail_payment(name)
        deliver()
        assert plan_of(user) == "paid"
        billing = api.get("/api/v1/me/").json()["billing"]
        assert billing["payment_failed"]
        ends = datetime.fromisoformat(billing["grace_ends_at"])
        assert timedelta(days=6) < ends - timezone.now() <= timedelta(days=7)

        stripe.fail_payment(name)
        # A month later, as for a renewal: the stand-in has no other clock.
        invoice = stripe.state.subscriptions[name]["latest_invoice"]
        stripe.change(name, latest_invoice=invoice | {"created": invoice["created"] + 30 * 86400})
        deliver()
        again = datetime.fromisoformat(api.get("/api/v1/me/").json()["billing"]["grace_ends_at"])
        assert again == ends, "a second unpaid invoice starts no second grace period"

        Subscription.objects.update(past_due_since=timezone.now() - timedelta(days=8))
        assert synchronization.end_grace_periods() == 1
        assert synchronization.end_grace_periods() == 0
        assert plan_of(user) == "free"
        assert api.get("/api/v1/me/").json()["billing"]["payment_failed"]

        stripe.pay(name)
        deliver()
        assert plan_of(user) == "paid"
        assert not api.get("/api/v1/me/").json()["billing"]["payment_failed"]

    def test_the_plan_decides_the_queue_and_the_quota(
        self,
        api: Any,
        customer: str,
        user: Any,
        stripe: StripeStandIn,
        deliver: Any,
        messages: Any,
        run_on_commit: Any,
    ) -> None:
        def request() -> None:
            with run_on_commit():
                assert api.post("/api/v1/ai/captions/", {"prompt": "x"}, format="json").status_code == 202

        request()
        free = api.get("/api/v1/me/").json()["quotas"][0]["limit"]
        stripe.subscribe(customer)
        deliver()
        request()
        assert (len(messages("ai_jobs")), len(messages("ai_priority"))) == (1, 1)
        assert api.get("/api/v1/me/").json()["quotas"][0]["limit"] > free

    def test_a_customer_that_stripe_does_not_have_changes_nothing(
        self, customer: str, user: Any, stripe: StripeStandIn, deliver: Any
    ) -> None:
        """A key of another Stripe account must not end all subscriptions."""
        stripe.subscribe(customer)
        deliver()
        stripe.state.customers.clear()
        with pytest.raises(RefusedError):
            synchronization.synchronize(Account.objects.get(user=user))
        assert plan_of(user) == "paid"

    def test_many_subscriptions_are_read_page_by_page(
        self, customer: str, user: Any, stripe: StripeStandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("billing.client.PAGE", 2)
        names = {stripe.subscribe(customer) for _ in range(5)}
        assert {one.id for one in client.subscriptions(customer)} == names
        assert {one.id for one in client.all_subscriptions()} == names

    def test_staff_give_the_plan_for_nothing(self, user: Any, admin_client: Any) -> None:
        url = "/admin/billing/account/add/"
        form = {"user": user.pk, "complimentary": "on"}
        management = {f"subscriptions-{name}_FORMS": 0 for name in ("TOTAL", "INITIAL", "MIN_NUM", "MAX_NUM")}
        assert admin_client.post(url, form | management).status_code == 302
        assert plan_of(user) == "paid"


class TestDeletedCustomer:
    """Someone deletes a customer in Stripe's dashboard, and the user comes back."""

    @pytest.fixture(params=[True, False], ids=["listed", "not listed"])
    def gone(self, request: Any, customer: str, user: Any, stripe: StripeStandIn, deliver: Any) -> str:
        stripe.subscribe(customer)
        deliver()
        assert plan_of(user) == "paid"
        stripe.lists_deleted = request.param
        stripe.delete_customer(customer)
        return customer

    def test_the_plan_ends(self, gone: str, user: Any, stripe: StripeStandIn, deliver: Any) -> None:
        deliver(list(stripe.state.events)[-1])
        assert plan_of(user) == "free"
        assert not Event.objects.filter(status="pending").exists()
        assert reconciliation.run(repair=False).differences == []

    def test_the_user_subscribes_again_as_a_new_customer(
        self, api: Any, gone: str, user: Any, stripe: StripeStandIn, deliver: Any
    ) -> None:
        url = api.post("/api/v1/billing/checkout/").json()["url"]
        again = Account.objects.get(user=user).customer_id
        assert again not in (None, gone)
        assert api.post("/api/v1/billing/checkout/").json()["url"] == url
        stripe.complete(url.rsplit("/", 1)[1])
        deliver()
        assert plan_of(user) == "paid"
        assert Event.objects.get(type="customer.deleted").status == "ignored"

    def test_the_portal_has_nothing_to_manage(self, api: Any, gone: str) -> None:
        answer = api.post("/api/v1/billing/portal/")
        assert (answer.status_code, answer.json()["code"]) == (409, "no_subscription")


class TestUnusualSubscriptions:
    def test_a_cancelled_subscription_and_a_new_one(
        self, api: Any, customer: str, user: Any, stripe: StripeStandIn, deliver: Any
    ) -> None:
        stripe.cancel(stripe.subscribe(customer))
        second = stripe.subscribe(customer)
        deliver()
        assert plan_of(user) == "paid"
        assert api.get("/api/v1/me/").json()["billing"]["status"] == "active"
        stripe.cancel(second)
        deliver(list(stripe.state.events)[-1])
        assert plan_of(user) == "free"

    def test_one_of_two_subscriptions_is_enough(
        self, customer: str, user: Any, stripe: StripeStandIn, deliver: Any
    ) -> None:
        stripe.subscribe(customer)
        stripe.cancel(stripe.subscribe(customer))
        deliver()
        assert plan_of(user) == "paid"

    @pytest.mark.parametrize("status", ["trialing", "paused", "unpaid"])
    def test_a_subscription_that_can_be_resumed_is_not_sold_again(
        self, api: Any, customer: str, user: Any, stripe: StripeStandIn, deliver: Any, status: str
    ) -> None:
        stripe.subscribe(customer, status=status)
        deliver()
        assert plan_of(user) == ("paid" if status == "trialing" else "free")
        answer = api.post("/api/v1/billing/checkout/")
        assert (answer.status_code, answer.json()["code"]) == (409, "already_subscribed")

    @pytest.mark.parametrize("status", ["incomplete", "incomplete_expired", "a state of the future"])
    def test_a_subscription_whose_first_payment_failed_does_not_block_another_one(
        self, api: Any, customer: str, user: Any, stripe: StripeStandIn, deliver: Any, status: str
    ) -> None:
        stripe.subscribe(customer, status=status)
        deliver()
        assert plan_of(user) == "free"
        assert api.get("/api/v1/me/").json()["billing"]["status"] == status
        assert api.post("/api/v1/billing/checkout/").status_code == 200

    def test_another_price_is_stored_and_gives_nothing(
        self, api: Any, customer: str, user: Any, stripe: StripeStandIn, deliver: Any
    ) -> None:
        """Another product, or the plan pro in a currency that is not configured."""
        stripe.subscribe(customer, price="price_in_dollars")
        deliver()
        assert Subscription.objects.get().prices == ["price_in_dollars"]
        assert plan_of(user) == "free"
        assert api.get("/api/v1/me/").json()["billing"]["status"] == ""

    def test_a_subscription_that_cannot_be_read_keeps_its_event(
        self, customer: str, user: Any, stripe: StripeStandIn, deliver: Any
    ) -> None:
        stripe.change(stripe.subscribe(customer), items={"data": [{"price": None}]})
        with pytest.raises(RefusedError, match="cannot be read"):
            deliver(next(iter(stripe.state.events)))
        assert Event.objects.get().status == "pending"
        assert plan_of(user) == "free"


class TestCatchUp:
    def test_events_that_were_not_delivered_are_fetched_once(
        self, customer: str, user: Any, stripe: StripeStandIn, messages: Any, run_on_commit: Any
    ) -> None:
        stripe.subscribe(customer)
        stripe.record("charge.succeeded", {"id": "ch_1", "customer": customer})
        assert events.catch_up() == 0, "Stripe's own deliveries come first"
        later = timezone.now() + timedelta(minutes=11)
        with run_on_commit():
            assert events.catch_up(later) == 2
        assert events.catch_up(later) == 0
        for message in messages("default"):
            handle_event.apply(args=message.args, throw=True)
        assert plan_of(user) == "paid"
        assert Event.objects.filter(delivered_at=None).count() == 2
        assert post(*stripe.signed(next(iter(stripe.state.events)))).json()["outcome"] == "duplicate"
        assert Event.objects.filter(delivered_at=None).count() == 1

    def test_old_events_are_forgotten_unless_they_wait(self, stripe: StripeStandIn) -> None:
        for name, status in (("evt_1", "handled"), ("evt_2", "pending")):
            Event.objects.create(pk=name, type="invoice.paid", status=status, created_at=NOW)
        Event.objects.update(received_at=timezone.now() - timedelta(days=100))
        assert events.forget() == 1
        assert Event.objects.get().pk == "evt_2"


class TestReconciliation:
    def test_nothing_differs(self, customer: str, stripe: StripeStandIn, deliver: Any) -> None:
        stripe.subscribe(customer)
        deliver()
        done = reconciliation.run(repair=True)
        assert (done.subscriptions, done.differences) == (1, [])

    def test_lost_events_are_named_and_repaired(
        self, customer: str, user: Any, stripe: StripeStandIn, deliver: Any
    ) -> None:
        name = stripe.subscribe(customer)
        found = kinds_and_texts(reconciliation.run(repair=False))
        assert found == [("subscription", f"{name} of user {user.pk}: missing here, active in Stripe", False)]
        assert plan_of(user) == "free"
        reconciliation.run(repair=True)
        assert plan_of(user) == "paid"

        stripe.cancel(name)
        (_, text, is_repaired), *_ = kinds_and_texts(reconciliation.run(repair=True))
        assert text == f"{name} of user {user.pk}: status active here, canceled in Stripe"
        assert is_repaired
        assert plan_of(user) == "free"
        assert reconciliation.run(repair=True).differences == []

    def test_a_changed_price_and_period_are_named(
        self, customer: str, user: Any, stripe: StripeStandIn, deliver: Any
    ) -> None:
        name = stripe.subscribe(customer)
        deliver()
        items = stripe.state.subscriptions[name]["items"]["data"]
        items[0]["price"]["id"], items[0]["current_period_end"] = "price_other", 1_800_000_000
        texts = " ".join(text for _, text, _ in kinds_and_texts(reconciliation.run(repair=True)))
        assert "prices price_standin_pro here, price_other in Stripe" in texts
        assert "current_period_end" in texts
        assert plan_of(user) == "free"

    def test_an_unknown_customer_stays_a_difference(self, stripe: StripeStandIn, user: Any) -> None:
        name = stripe.subscribe(stripe.new_customer())
        ((kind, text, is_repaired),) = kinds_and_texts(reconciliation.run(repair=True))
        assert (kind, is_repaired) == ("unknown_customer", False)
        assert name in text

    def test_two_subscriptions_stay_a_difference(
        self, customer: str, stripe: StripeStandIn, deliver: Any
    ) -> None:
        stripe.subscribe(customer)
        stripe.subscribe(customer)
        deliver()
        ((kind, text, is_repaired),) = kinds_and_texts(reconciliation.run(repair=True))
        assert (kind, is_repaired) == ("double_subscription", False)
        assert "2 subscriptions" in text

    def test_plans_that_nothing_gives_are_named(
        self, customer: str, user: Any, make_user: Any, stripe: StripeStandIn
    ) -> None:
        User.objects.filter(pk=user.pk).update(plan="paid")
        other = make_user("eve", plan="paid")
        found = kinds_and_texts(reconciliation.run(repair=True))
        assert {(kind, is_repaired) for kind, _, is_repaired in found} == {("plan", True), ("plan", False)}
        assert f"user {other.pk} has the plan paid without a billing account" in [
            text for _, text, _ in found
        ]
        assert plan_of(user) == "free"

    def test_a_difference_that_only_needs_time_is_not_reported(
        self, customer: str, stripe: StripeStandIn, messages: Any, run_on_commit: Any
    ) -> None:
        stripe.subscribe(customer)
        with run_on_commit():
            post(*stripe.signed(next(iter(stripe.state.events))))
        assert reconciliation.run(repair=True).differences == []

    def test_a_wrong_key_changes_nothing_and_records_nothing(
        self, customer: str, user: Any, stripe: StripeStandIn, deliver: Any, settings: Any
    ) -> None:
        stripe.subscribe(customer)
        deliver()
        settings.STRIPE_SECRET_KEY = "sk_test_wrong"
        with pytest.raises(RefusedError):
            reconciliation.run(repair=True)
        assert not Reconciliation.objects.exists()
        assert plan_of(user) == "paid"

    def test_the_command_prints_each_difference(
        self, customer: str, user: Any, stripe: StripeStandIn, capsys: pytest.CaptureFixture[str]
    ) -> None:
        name = stripe.subscribe(customer)
        with pytest.raises(SystemExit) as ended:
            call_command("reconcile_billing")
        assert ended.value.code == 1
        assert f"subscription: {name} of user {user.pk}: missing here" in capsys.readouterr().out
        call_command("reconcile_billing", repair=True)
        assert capsys.readouterr().out.endswith("1 subscriptions, 1 differences, 0 of them remain\n")

    def test_a_customer_is_connected_again_after_a_restore(
        self, user: Any, make_user: Any, stripe: StripeStandIn, capsys: pytest.CaptureFixture[str]
    ) -> None:
        customer = stripe.new_customer()
        stripe.subscribe(customer)
        call_command("connect_customer", user.username, customer)
        assert plan_of(user) == "paid"
        assert reconciliation.run(repair=True).differences == []
        make_user("eve")
        for arguments, words in (
            (("nobody", "cus_2"), "there is no user nobody"),
            (("eve", customer), "already belongs to an account"),
            ((user.username, "cus_2"), f"is the customer {customer}"),
            (("eve", "cus_gone"), "Stripe has no such object"),
        ):
            with pytest.raises(SystemExit):
                call_command("connect_customer", *arguments)
            assert words in capsys.readouterr().err

    def test_the_command_without_configuration(self, db: None, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            call_command("reconcile_billing")
        assert ended.value.code == 2
        assert capsys.readouterr().err.startswith("Error: billing is not configured\nTry: ")


class TestMetrics:
    @pytest.fixture
    def read(self, stripe: StripeStandIn) -> Callable[[], dict[tuple[str, ...], float]]:
        from monitoring.billing import BillingCollector

        def read() -> dict[tuple[str, ...], float]:
            samples = [sample for family in BillingCollector().collect() for sample in family.samples]
            return {
                (one.name.removeprefix("posthub_billing_"), *one.labels.values()): one.value
                for one in samples
            }

        return read

    def test_what_is_not_known_has_no_series(self, read: Any, settings: Any) -> None:
        assert set(read()) == {("oldest_pending_event_seconds",), ("undelivered_events",)}
        settings.STRIPE_SECRET_KEY = ""
        assert read() == {}

    def test_waiting_and_undelivered_events(self, read: Any) -> None:
        now = timezone.now()

        def event(name: str, minutes: int, *, delivered: bool) -> None:
            Event.objects.create(
                pk=name,
                type="invoice.paid",
                created_at=now - timedelta(minutes=minutes),
                delivered_at=now if delivered else None,
            )

        event("evt_1", 30, delivered=True)
        event("evt_2", 40, delivered=False)
        assert read()["undelivered_events",] == 0, "a later one was delivered, so the webhook works"
        event("evt_3", 20, delivered=False)
        assert read()["undelivered_events",] == 1
        Event.objects.filter(pk="evt_1").update(received_at=now - timedelta(seconds=100))
        assert 100 <= read()["oldest_pending_event_seconds",] < 200
        Event.objects.update(status="handled")
        assert read()["oldest_pending_event_seconds",] == 0

    def test_subscriptions_and_differences(
        self, read: Any, customer: str, stripe: StripeStandIn, deliver: Any
    ) -> None:
        stripe.fail_payment(stripe.subscribe(customer))
        deliver()
        stripe.subscribe(stripe.new_customer())
        before = timezone.now().timestamp()
        reconciliation.run(repair=True)
        found = read()
        assert found["subscriptions", "past_due"] == 1
        assert found["differences", "unknown_customer"] == 1
        assert found["differences", "subscription"] == 0
        assert found["compared_timestamp_seconds",] >= before


def kinds_and_texts(done: Reconciliation) -> list[tuple[str, str, bool]]:
    return [(one["kind"], one["text"], one["repaired"]) for one in done.differences]
