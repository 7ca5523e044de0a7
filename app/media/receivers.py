"""Deletes files when their rows are deleted, alone or together with their owner. Connected when the app is ready."""

from functools import partial
from typing import Any

from django.db import transaction
from django.db.models.signals import post_delete
from django.dispatch import receiver

from media import services
from media.models import Asset


@receiver(post_delete, sender=Asset, dispatch_uid="media.discard")
def discard_files(instance: Asset, **_: Any) -> None:
    transaction.on_commit(partial(services.discard, instance.owner_id, instance.pk))
