from django.conf import settings

from posts.models import Channel
from posts.publishers.base import Publisher, RejectedError
from posts.publishers.sandbox import SandboxPublisher
from posts.publishers.webhook import WebhookPublisher


def publisher_for(channel: Channel) -> Publisher:
    if channel.publisher == Channel.Publisher.WEBHOOK:
        return WebhookPublisher(
            url=channel.webhook_url,
            secret=channel.webhook_secret,
            timeout=settings.WEBHOOK_TIMEOUT,
            allow_private=settings.WEBHOOK_ALLOW_PRIVATE,
            allow_http=settings.WEBHOOK_ALLOW_HTTP,
        )
    if settings.SANDBOX_ALLOWED:
        return SandboxPublisher(latency=settings.SANDBOX_LATENCY)
    raise RejectedError("the sandbox publisher is only available in development")
