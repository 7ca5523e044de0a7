"""The AI app's reactions to signals of other apps. Connected when the app is ready."""

from typing import Any

from django.dispatch import receiver

from ai import services
from posts.models import Post
from posts.signals import post_published


@receiver(post_published, dispatch_uid="ai.request_embedding")
def request_embedding(post: Post, **_: Any) -> None:
    services.request_embedding(post)
