from django.contrib.auth.models import AbstractUser
from django.db import models


class User(AbstractUser):
    """A customer. The AI jobs of paying customers have a queue of their own."""

    class Plan(models.TextChoices):
        FREE = "free"
        PAID = "paid"

    plan = models.CharField(max_length=8, choices=Plan.choices, default=Plan.FREE)

    @property
    def is_paying(self) -> bool:
        return self.plan == self.Plan.PAID
