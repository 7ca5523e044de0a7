"""The step between adding a new encryption key and removing the old one."""

from typing import Any

from django.core.management.base import BaseCommand

from posts import signing_secrets


class Command(BaseCommand):
    help = "Encrypt all signing secrets with the first key of FIELD_ENCRYPTION_KEYS. Safe to run again."

    def handle(self, *args: Any, **options: Any) -> None:
        totals = signing_secrets.reencrypt()
        self.stdout.write(f"{totals['encrypted']} secrets encrypted with the first key")
        if totals["undecryptable"]:
            self.stderr.write(
                f"Error: {totals['undecryptable']} secrets cannot be decrypted with any key\n"
                "Try: append the earlier key to FIELD_ENCRYPTION_KEYS (or SECRET_KEY_FALLBACKS), and run this again"
            )
            raise SystemExit(1)
