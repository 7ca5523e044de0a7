"""Connects an account with its customer again, after a restore to a time before the customer was created."""

from argparse import ArgumentParser
from typing import Any, NoReturn

from django.core.management.base import BaseCommand

from accounts.models import User
from billing import checkout
from billing.errors import StripeCallError
from billing.models import Account
from billing.synchronization import synchronize


class Command(BaseCommand):
    help = "Link a user who has no customer to a Stripe customer, and read the subscriptions."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")
        parser.add_argument("customer", help="cus_…, as printed by reconcile_billing")

    def handle(self, *args: Any, **options: Any) -> None:
        username, customer = options["username"], options["customer"]
        user = User.objects.filter(username=username).first()
        if user is None:
            self._fail(f"there is no user {username}", "look for the user in the admin")
        if Account.objects.filter(customer_id=customer).exists():
            self._fail(f"{customer} already belongs to an account", "python manage.py reconcile_billing")
        account = checkout.account_of(user)
        if account.customer_id:
            self._fail(f"{username} is the customer {account.customer_id}", "cancel one of the two in Stripe")
        account.customer_id = customer
        try:
            synchronize(account)
        except StripeCallError as error:
            self._fail(f"{customer}: {error}", "check the ID and STRIPE_SECRET_KEY")
        Account.objects.filter(pk=account.pk).update(customer_id=customer)
        self.stdout.write(
            f"{username} is the customer {customer} and has the plan {User.objects.get(pk=user.pk).plan}"
        )

    def _fail(self, message: str, hint: str) -> NoReturn:
        self.stderr.write(f"Error: {message}\nTry: {hint}")
        raise SystemExit(1)
