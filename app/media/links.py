"""Signed URLs of media files: anyone who has one can read one file until it expires."""

import time
from urllib.parse import urlencode

from django.conf import settings
from django.core.signing import BadSignature, Signer
from rest_framework.exceptions import APIException

from media.models import Asset

HOUR = 3600
# Hours. A link for the frontend works for a day. A webhook's receiver may fetch the file later, so its link works for a week.
SHORT, LONG = 24, 7 * 24
ORIGINAL, THUMBNAIL = "original", "thumbnail"


class LinkExpired(APIException):
    status_code = 403
    default_code = "link_expired"
    default_detail = "This link has expired. Load the page again for a new one."


class LinkInvalid(APIException):
    status_code = 403
    default_code = "link_invalid"
    default_detail = "This link is not valid."


def path(asset: Asset, variant: str, hours: int = SHORT) -> str:
    """The path of a file, with its expiry and signature.

    It stays the same for an hour, so that browsers can cache the file.
    """
    expires = (int(time.time()) // HOUR + hours + 1) * HOUR
    query = urlencode({"expires": expires, "signature": _sign(str(asset.pk), variant, str(expires))})
    return f"/api/v1/media/{asset.pk}/{variant}/?{query}"


def absolute(asset: Asset, variant: str) -> str:
    """The full URL of a file, for receivers of webhooks."""
    return settings.API_URL + path(asset, variant, LONG)


def check(pk: str, variant: str, expires: str, signature: str) -> None:
    """Raises LinkInvalid or LinkExpired, unless the link is one of `path` and has not expired."""
    try:
        Signer(salt="media").unsign(f"{pk}/{variant}/{expires}:{signature}")
    except BadSignature:
        raise LinkInvalid from None
    if int(expires) <= time.time():
        raise LinkExpired


def _sign(pk: str, variant: str, expires: str) -> str:
    return Signer(salt="media").sign(f"{pk}/{variant}/{expires}").rpartition(":")[2]
