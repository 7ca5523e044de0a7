"""Streaming age encryption: 64 KiB in memory at a time, in the format of the standard ``age`` program."""

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import pyrage

from backup.errors import NoIdentityError, VerificationError
from sidecar import UsageError

Recipient: TypeAlias = Any  # pyrage has no types
Identity: TypeAlias = Any
_POST_QUANTUM = "use a key without -pq: python -m backup keygen identity.txt"
# The start of a public key that a message shows: a post-quantum one has 2,000 characters.
_SHOWN = 40
_HINT = "set BACKUP_AGE_IDENTITY_FILE to the identity of one of the backup's recipients"


class Reader(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class Writer(Protocol):
    def write(self, data: bytes, /) -> int: ...

    def flush(self) -> None: ...


def fingerprint(recipient: str) -> str:
    """A public key's name in a manifest. Readers of the store must not learn the key itself, for which they could encrypt a forgery."""
    return hashlib.sha256(recipient.encode()).hexdigest()[:16]


def parse_recipients(texts: Sequence[str]) -> list[Recipient]:
    """Parse public keys ``age1…``.

    Raises:
        UsageError: one of them is not a public key. A secret key is not shown.
    """
    return [_parse_recipient(text) for text in texts]


def parse_identities(text: str) -> list[Identity]:
    """Parse the secret keys of an identity file. Comments and empty lines are skipped.

    Raises:
        UsageError: there is none, or one is invalid. Its text is not shown.
    """
    lines = [line.strip() for line in text.splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise UsageError(
            "the age identity contains no secret key",
            hint="create one with: python -m backup keygen identity.txt",
        )
    return [_parse_identity(key, number) for number, key in enumerate(keys, 1)]


def encrypt(reader: Reader, writer: Writer, recipients: Sequence[Recipient]) -> None:
    """Encrypt everything from the reader to the writer for all recipients; without recipients, copy it."""
    if recipients:
        pyrage.encrypt_io(reader, writer, list(recipients))
    else:
        _copy(reader, writer)


def decrypt(reader: Reader, writer: Writer, identities: Sequence[Identity]) -> None:
    """Decrypt everything from the reader to the writer.

    Raises:
        NoIdentityError: no identity matches, or the list of recipients was changed.
        VerificationError: the ciphertext was changed.
    """
    try:
        pyrage.decrypt_io(reader, writer, list(identities))
    except pyrage.DecryptError as error:
        raise no_identity(str(error)) from error
    except OSError as error:
        raise damaged(str(error)) from error


def no_identity(reason: str) -> NoIdentityError:
    """The error if no identity matches."""
    return NoIdentityError(f"decryption failed: {reason}", hint=_HINT)


def damaged(reason: str) -> VerificationError:
    """The error if the ciphertext was changed."""
    return VerificationError(f"decryption failed: {reason}", hint=_HINT)


def _parse_recipient(text: str) -> Recipient:
    if text.startswith("age1pq1"):
        raise UsageError(
            "BACKUP_AGE_RECIPIENTS has a post-quantum key (age1pq1…), which is not supported",
            hint=_POST_QUANTUM,
        )
    kinds: list[tuple[str, Any, type[Exception]]] = [
        ("age1tagpq1", pyrage.tagpq, pyrage.RecipientError),
        ("age1tag1", pyrage.tag, pyrage.RecipientError),
        ("age1", pyrage.x25519, pyrage.RecipientError),
    ]
    for prefix, module, failure in kinds:
        if text.startswith(prefix):
            try:
                return module.Recipient.from_str(text)
            except failure as error:
                shown = text if len(text) <= 2 * _SHOWN else f"{text[:_SHOWN]}…"
                raise UsageError(
                    f"BACKUP_AGE_RECIPIENTS: {shown} is not a valid public key: {error}",
                    hint="copy the complete key",
                ) from None
    shown = "a secret key" if text.upper().startswith("AGE-SECRET-KEY") else repr(text)
    raise UsageError(
        f"BACKUP_AGE_RECIPIENTS contains {shown} instead of a public key",
        hint="public keys begin with age1; print it with: age-keygen -y identity.txt",
    )


def _parse_identity(key: str, number: int) -> Identity:
    if key.upper().startswith("AGE-SECRET-KEY-PQ-"):
        raise UsageError(
            f"key {number} of the age identity is a post-quantum key, which is not supported",
            hint=_POST_QUANTUM,
        )
    try:
        return pyrage.x25519.Identity.from_str(key)
    except pyrage.IdentityError:
        raise UsageError(
            f"key {number} of the age identity cannot be read", hint="it must begin with AGE-SECRET-KEY-1"
        ) from None


def _copy(reader: Reader, writer: Writer) -> None:
    while data := reader.read(1 << 16):
        writer.write(data)
