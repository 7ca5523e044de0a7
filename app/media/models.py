import uuid

from django.conf import settings
from django.db import models
from django_prometheus.models import ExportModelOperationsMixin


class Asset(ExportModelOperationsMixin("asset"), models.Model):  # type: ignore[misc]  # the mixin has no types
    """A file of a customer in the media store. This row says what it is; the store has the bytes."""

    class Kind(models.TextChoices):
        IMAGE = "image"
        VIDEO = "video"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="assets")
    kind = models.CharField(max_length=8, choices=Kind.choices)
    content_type = models.CharField(max_length=40)
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    # Duration of a video, in seconds.
    duration = models.FloatField(null=True, blank=True)
    # Bytes and SHA-256 digest of the original.
    size = models.PositiveBigIntegerField()
    digest = models.CharField(max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-created_at",)
        indexes = (models.Index(fields=("owner", "-created_at"), name="asset_owner_created"),)

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"
