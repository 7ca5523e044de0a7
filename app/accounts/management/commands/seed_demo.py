"""Users, tokens and channels for a demo. Safe to run again; refused in production."""

import json
import os
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import transaction

from accounts import tokens
from accounts.models import User
from billing.models import Account
from posts.models import Channel

# Name of the token. Each run replaces the token, because only its digest is stored.
NAME = "demo"


class Command(BaseCommand):
    help = "Create demo users with tokens and channels (development settings only)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--users", type=int, default=3, help="number of users (default 3)")
        parser.add_argument("--paid", type=int, default=1, help="number of users on the plan pro (default 1)")
        parser.add_argument(
            "--webhook-url", default="", help="publish to this address instead of the sandbox"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.SANDBOX_ALLOWED:
            self.stderr.write(
                "Error: demo data is refused by these settings\n"
                "Try: python manage.py createsuperuser, for a real account; demo data is for development and the demo"
            )
            raise SystemExit(2)
        users = [
            self._account(number, paying=number <= options["paid"], webhook=options["webhook_url"])
            for number in range(1, options["users"] + 1)
        ]
        self._staff()
        if options["json"]:
            self.stdout.write(json.dumps({"users": users}))
        else:
            for user in users:
                self.stdout.write(f"{user['username']:10} {user['plan']:5} {user['token']}")

    @transaction.atomic
    def _account(self, number: int, *, paying: bool, webhook: str) -> dict[str, Any]:
        user, _ = User.objects.update_or_create(
            username=f"demo{number}",
            defaults={
                "plan": User.Plan.PRO if paying else User.Plan.FREE,
                "email": f"demo{number}@example.com",
            },
        )
        # Separate from the plan of a subscription in the stand-in for Stripe, which stays as it is.
        Account.objects.update_or_create(user=user, defaults={"complimentary": paying})
        _set_password(user)
        channel, _ = Channel.objects.update_or_create(
            owner=user,
            name="Demo",
            defaults={
                "publisher": Channel.Publisher.WEBHOOK if webhook else Channel.Publisher.SANDBOX,
                "webhook_url": webhook,
            },
        )
        user.api_tokens.filter(name=NAME).delete()
        _, key = tokens.issue(user, NAME)
        return {"username": user.username, "plan": user.plan, "token": key, "channel": str(channel.pk)}

    def _staff(self) -> None:
        """Create a staff user for the admin, if DEMO_PASSWORD is set."""
        if os.environ.get("DEMO_PASSWORD"):
            user, _ = User.objects.update_or_create(
                username="demo-staff", defaults={"is_staff": True, "is_superuser": True}
            )
            _set_password(user)


def _set_password(user: User) -> None:
    password = os.environ.get("DEMO_PASSWORD")
    if password:
        user.set_password(password)
    elif not user.password:
        user.set_unusable_password()
    user.save(update_fields=["password"])
