import logging

from django.conf import settings

from config.encryption import UndecryptableError, decrypt
from posts.models import Channel
from posts.publishers.base import Publisher, RejectedError, UnreachableError
from posts.publishers.sandbox import SandboxPublisher
from posts.publishers.webhook import WebhookPublisher

log = logging.getLogger(__name__)


def publisher_for(channel: Channel) -> Publisher:
    """The publisher of a channel.

    Raises:
        RejectedError: the settings do not allow this publisher.
        UnreachableError: the signing secret cannot be decrypted, until the operator restores its key.
    """
    if channel.publisher == Channel.Publisher.WEBHOOK:
        return WebhookPublisher(
            url=channel.webhook_url,
            secret=_secret(channel),
            timeout=settings.WEBHOOK_TIMEOUT,
            allow_private=settings.WEBHOOK_ALLOW_PRIVATE,
            allow_http=settings.WEBHOOK_ALLOW_HTTP,
        )
    if settings.SANDBOX_ALLOWED:
        return SandboxPublisher(latency=settings.SANDBOX_LATENCY)
    raise RejectedError("the sandbox publisher is only available in development")


def _secret(channel: Channel) -> str:
    try:
        return decrypt(channel.webhook_secret)
    except UndecryptableError as error:
        log.exception("signing secret not readable", extra={"channel": str(channel.pk)})
        raise UnreachableError("the channel's signing secret cannot be decrypted") from error
