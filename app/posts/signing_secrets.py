"""The secrets that sign webhooks, encrypted in the database."""

import logging

from django.db import transaction

from config.encryption import UndecryptableError, current_prefix, decrypt, encrypt
from posts.models import Channel

log = logging.getLogger(__name__)

BATCH = 500


def reencrypt() -> dict[str, int]:
    """Encrypt every secret with the first key: those of earlier keys, and those that are still plain text.

    Returns the number of secrets encrypted and of those that cannot be decrypted, which stay as they are.
    """
    totals = {"encrypted": 0, "undecryptable": 0}
    outdated = Channel.objects.exclude(webhook_secret="").exclude(webhook_secret__startswith=current_prefix())
    keys = list(outdated.values_list("pk", flat=True))
    for start in range(0, len(keys), BATCH):
        with transaction.atomic():
            for channel in outdated.select_for_update().filter(pk__in=keys[start : start + BATCH]):
                totals["encrypted" if _reencrypt(channel) else "undecryptable"] += 1
    return totals


def _reencrypt(channel: Channel) -> bool:
    try:
        secret = decrypt(channel.webhook_secret)
    except UndecryptableError as error:
        extra = {"channel": str(channel.pk)}
        log.error("signing secret not encrypted again: %s", error, extra=extra)  # noqa: TRY400 - the message says it
        return False
    channel.webhook_secret = encrypt(secret)
    channel.save(update_fields=["webhook_secret"])
    return True
