"""Encryption of single columns, with keys from the settings.

A stored value is `enc:KEY:CIPHERTEXT`: KEY identifies the key by the first 8 hex digits of its SHA-256 digest, and
CIPHERTEXT is a Fernet token (AES-128-CBC with HMAC-SHA256). The first key encrypts, all keys decrypt.
"""

import base64
import hashlib
import re
from functools import cache

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

STORED = re.compile(r"enc:([0-9a-f]{8}):([\w=-]+)")
PURPOSE = b"posthub: encryption of columns"


class UndecryptableError(Exception):
    """No configured key decrypts this value. The message does not contain it."""


def encrypt(text: str) -> str:
    key = settings.FIELD_ENCRYPTION_KEYS[0]
    return current_prefix() + _fernet(key).encrypt(text.encode()).decode()


def decrypt(stored: str) -> str:
    """The text of a stored value. One that is not encrypted, from an earlier version, is returned as it is.

    Raises:
        UndecryptableError: its key is not configured, or the value is damaged.
    """
    parts = STORED.fullmatch(stored)
    if parts is None:
        return stored
    for key in settings.FIELD_ENCRYPTION_KEYS:
        if _identify(key) == parts[1]:
            try:
                return _fernet(key).decrypt(parts[2].encode()).decode()
            except InvalidToken:
                raise UndecryptableError("a stored secret is damaged") from None
    raise UndecryptableError(f"the key {parts[1]} of a stored secret is not configured")


def current_prefix() -> str:
    """How values that are encrypted with the first key begin."""
    return f"enc:{_identify(settings.FIELD_ENCRYPTION_KEYS[0])}:"


@cache
def _identify(key: str) -> str:
    return hashlib.sha256(PURPOSE + key.encode()).hexdigest()[:8]


@cache
def _fernet(key: str) -> Fernet:
    derived = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=PURPOSE).derive(key.encode())
    return Fernet(base64.urlsafe_b64encode(derived))
