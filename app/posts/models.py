import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django_prometheus.models import ExportModelOperationsMixin
from pgvector.django import HnswIndex, VectorField

EMBEDDING_DIMENSIONS = 768


class Channel(ExportModelOperationsMixin("channel"), models.Model):  # type: ignore[misc]  # the mixin has no types
    """A destination of a customer's posts."""

    class Publisher(models.TextChoices):
        WEBHOOK = "webhook"
        SANDBOX = "sandbox"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="channels")
    name = models.CharField(max_length=80)
    publisher = models.CharField(max_length=16, choices=Publisher.choices, default=Publisher.WEBHOOK)
    webhook_url = models.URLField(max_length=500, blank=True)
    # Encrypted by config.encryption.
    webhook_secret = models.TextField(blank=True)
    published_count = models.PositiveIntegerField(default=0, editable=False)
    last_published_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("name",)
        constraints = (models.UniqueConstraint(fields=("owner", "name"), name="channel_owner_name"),)

    def __str__(self) -> str:
        return self.name


class Post(ExportModelOperationsMixin("post"), models.Model):  # type: ignore[misc]  # the mixin has no types
    class Status(models.TextChoices):
        DRAFT = "draft"
        SCHEDULED = "scheduled"
        PUBLISHING = "publishing"
        PUBLISHED = "published"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="posts")
    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="posts")
    text = models.TextField(max_length=5000)
    media = models.ForeignKey(
        "media.Asset", on_delete=models.RESTRICT, null=True, blank=True, related_name="posts"
    )
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.DRAFT)
    scheduled_at = models.DateTimeField(null=True, blank=True)
    # When a task for this post was last sent. If it is empty or long ago, beat sends another one.
    sent_at = models.DateTimeField(null=True, blank=True, editable=False)
    # The id of the task that is publishing this post, and since when. Only that task may record the outcome.
    claimed_by = models.CharField(max_length=64, blank=True, editable=False)
    claimed_at = models.DateTimeField(null=True, blank=True, editable=False)
    attempts = models.PositiveSmallIntegerField(default=0, editable=False)
    last_error = models.CharField(max_length=500, blank=True)
    published_at = models.DateTimeField(null=True, blank=True)
    external_id = models.CharField(max_length=200, blank=True, editable=False)
    embedding = VectorField(dimensions=EMBEDDING_DIMENSIONS, null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("-created_at",)
        constraints = (
            models.CheckConstraint(
                condition=~Q(status__in=("scheduled", "publishing")) | Q(scheduled_at__isnull=False),
                name="post_scheduled_has_time",
            ),
            models.CheckConstraint(
                condition=~Q(status="published") | Q(published_at__isnull=False),
                name="post_published_has_time",
            ),
        )
        indexes = (
            models.Index(fields=("owner", "-created_at"), name="post_owner_created"),
            models.Index(fields=("channel", "status"), name="post_channel_status"),
            models.Index(fields=("scheduled_at",), condition=Q(status="scheduled"), name="post_due"),
            models.Index(fields=("claimed_at",), condition=Q(status="publishing"), name="post_claimed"),
            HnswIndex(fields=("embedding",), opclasses=("vector_cosine_ops",), name="post_embedding_hnsw"),
        )

    def __str__(self) -> str:
        return f"{self.text[:40]} ({self.status})"
