import uuid
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import models, transaction


class User(AbstractUser):
    """A customer. The AI jobs of paying customers have a separate queue.

    Only `billing` sets the plan: it follows from the subscriptions, or is complimentary.
    """

    class Plan(models.TextChoices):
        FREE = "free"
        # The stored value predates the name; customers' programs read it from the API.
        PRO = "paid", "Pro"

    plan = models.CharField(max_length=8, choices=Plan.choices, default=Plan.FREE)

    _password_removed = False

    @property
    def is_paying(self) -> bool:
        return self.plan == self.Plan.PRO

    def set_unusable_password(self) -> None:
        super().set_unusable_password()
        self._password_removed = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save, and revoke all API tokens if the password has changed. Django ends the sessions itself."""
        # Django resets `_password` when it only stores a stronger digest of the same password.
        set_now = getattr(self, "_password", None) is not None
        changed = not self._state.adding and (set_now or self._password_removed)
        with transaction.atomic():
            super().save(*args, **kwargs)
            if changed:
                self.api_tokens.all().delete()
        self._password_removed = False


class ApiToken(models.Model):
    """A key with which a program signs in for a customer. Only its digest is stored."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=80)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    # The first characters, by which the owner recognises it.
    prefix = models.CharField(max_length=8, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = "API token"
        ordering = ("-created_at",)
        indexes = (models.Index(fields=("expires_at",), name="apitoken_expires"),)

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"
