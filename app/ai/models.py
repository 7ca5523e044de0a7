import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django_prometheus.models import ExportModelOperationsMixin


class AIJob(ExportModelOperationsMixin("ai_job"), models.Model):  # type: ignore[misc]  # the mixin has no types
    """One request to an AI provider. Its ID is also the ID of the Celery task that runs it."""

    class Kind(models.TextChoices):
        CAPTION = "caption"
        EMBEDDING = "embedding"
        IMAGE = "image"
        VIDEO = "video"

    class Status(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        # The provider works on it, and no worker is busy with it.
        WAITING = "waiting"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        CANCELLED = "cancelled"
        # A worker died while it started an operation, so there may be one, and it may cost money. It is not repeated.
        UNKNOWN = "unknown"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="ai_jobs")
    post = models.ForeignKey(
        "posts.Post", on_delete=models.CASCADE, null=True, blank=True, related_name="ai_jobs"
    )
    kind = models.CharField(max_length=16, choices=Kind.choices)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.QUEUED)
    priority = models.BooleanField(default=False)
    provider = models.CharField(max_length=16)
    prompt = models.TextField(max_length=5000)
    result = models.TextField(blank=True)
    asset = models.OneToOneField(
        "media.Asset", on_delete=models.SET_NULL, null=True, blank=True, editable=False, related_name="job"
    )
    error = models.CharField(max_length=500, blank=True)
    # Length of a video.
    seconds = models.PositiveSmallIntegerField(default=0, db_default=0)
    attempts = models.PositiveSmallIntegerField(default=0)
    # The number of attempts when one last got further. Those since then ended with the death of their worker.
    settled_attempts = models.PositiveSmallIntegerField(default=0, db_default=0, editable=False)
    sent_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "AI job"
        ordering = ("-created_at",)
        indexes = (
            models.Index(fields=("owner", "-created_at"), name="aijob_owner_created"),
            models.Index(
                fields=("sent_at",),
                condition=Q(status__in=("queued", "running", "waiting")),
                name="aijob_open",
            ),
            models.Index(fields=("finished_at",), name="aijob_finished"),
        )

    def __str__(self) -> str:
        return f"{self.kind} {self.id} ({self.status})"


class Operation(models.Model):
    """An operation of a provider that makes a video.

    The row is committed before the request that starts the operation. Without a name it means: there may be one.
    """

    job = models.OneToOneField(AIJob, on_delete=models.CASCADE, primary_key=True, related_name="operation")
    name = models.CharField(max_length=200, blank=True)
    intended_at = models.DateTimeField()
    # The names of the operations that the provider had before: a new one can then be found. None: it did not list them.
    listed_before = models.JSONField(null=True, blank=True, editable=False)
    accepted_at = models.DateTimeField(null=True, blank=True)
    polls = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return self.name or "an operation without a name"
