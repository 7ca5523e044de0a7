"""The nightly comparison by hand: what the on-call engineer runs after an alert."""

from argparse import ArgumentParser
from typing import Any, NoReturn

from django.core.management.base import BaseCommand

from billing import checkout, reconciliation
from billing.errors import StripeCallError


class Command(BaseCommand):
    help = "Compare all subscriptions with Stripe's and name each difference."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--repair", action="store_true", help="also store Stripe's state where it is different"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not checkout.is_offered():
            self._fail("billing is not configured", "set STRIPE_SECRET_KEY and STRIPE_PRICE_PRO", 2)
        try:
            done = reconciliation.run(repair=options["repair"])
        except StripeCallError as error:
            self._fail(str(error), "test the key with ./ops doctor, and run this again", 1)
        for difference in done.differences:
            self.stdout.write(
                f"{difference['kind']}: {difference['text']}{' (repaired)' if difference['repaired'] else ''}"
            )
        left = [difference for difference in done.differences if not difference["repaired"]]
        self.stdout.write(
            f"{done.subscriptions} subscriptions, {len(done.differences)} differences, {len(left)} of them remain"
        )
        if left:
            raise SystemExit(1)

    def _fail(self, message: str, hint: str, code: int) -> NoReturn:
        self.stderr.write(f"Error: {message}\nTry: {hint}")
        raise SystemExit(code)
