"""API tokens: issued once, stored as a digest, named, expiring, revocable."""

import hashlib
import secrets
from datetime import timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from accounts.models import ApiToken, User

PREFIX = "ph_"
SHOWN = 8
MAX_TOKENS = 20
# last_used_at is written at most this often, so that a busy program does not cause a write per request.
TOUCH = timedelta(minutes=5)


def digest(key: str) -> str:
    """A fast digest is enough: a token has 256 random bits, so it cannot be guessed from its digest."""
    return hashlib.sha256(key.encode()).hexdigest()


@transaction.atomic
def issue(user: User, name: str, days: int | None = None) -> tuple[ApiToken, str]:
    """Create a token. Its text is returned here, and never again.

    An account has at most MAX_TOKENS tokens: a new one replaces the one that has not been used for the longest time.
    """
    User.objects.select_for_update(no_key=True).get(pk=user.pk)
    user.api_tokens.filter(expires_at__lte=timezone.now()).delete()
    oldest = user.api_tokens.order_by(F("last_used_at").desc(nulls_last=True), "-created_at")
    user.api_tokens.filter(pk__in=[token.pk for token in oldest[MAX_TOKENS - 1 :]]).delete()
    key = PREFIX + secrets.token_urlsafe(32)
    token = ApiToken.objects.create(
        user=user,
        name=name,
        digest=digest(key),
        prefix=key[:SHOWN],
        expires_at=timezone.now() + timedelta(days=days or settings.API_TOKEN_DAYS),
    )
    return token, key


def find(key: str) -> ApiToken | None:
    """Return the valid token with this text, and mark it as used."""
    now = timezone.now()
    token = ApiToken.objects.select_related("user").filter(digest=digest(key), expires_at__gt=now).first()
    if token is not None and (token.last_used_at is None or token.last_used_at < now - TOUCH):
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
    return token


def forget() -> int:
    """Delete expired tokens, and any that a process of an earlier version has stored in its table as plain text.

    Returns the number of expired tokens.
    """
    deleted, _ = ApiToken.objects.filter(expires_at__lte=timezone.now()).delete()
    if "authtoken_token" in connection.introspection.table_names():
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM authtoken_token")
    return deleted
