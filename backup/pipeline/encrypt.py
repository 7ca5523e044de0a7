"""age encryption, streaming: 64 KiB at a time in memory, the format that the stock ``age`` program reads."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import pyrage

from backup.errors import NoIdentityError, VerificationError
from sidecar import UsageError

Recipient: TypeAlias = Any  # pyrage has no types
Identity: TypeAlias = Any
_HINT = "give the identity of one of the backup's recipients in BACKUP_AGE_IDENTITY_FILE"


class Reader(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class Writer(Protocol):
    def write(self, data: bytes, /) -> int: ...

    def flush(self) -> None: ...


def parse_recipients(texts: Sequence[str]) -> list[Recipient]:
    """Public keys ``age1…``.

    Raises:
        UsageError: one of them is no public key. A secret key given by mistake is not repeated.
    """
    return [_parse_recipient(text) for text in texts]


def parse_identities(text: str) -> list[Identity]:
    """The secret keys in the text of an identity file; comments and empty lines are skipped.

    Raises:
        UsageError: there is none, or one is unreadable. Its text is not repeated.
    """
    lines = [line.strip() for line in text.splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise UsageError(
            "the age identity holds no secret key", hint="make one with: age-keygen -o identity.txt"
        )
    return [_parse_identity(key, number) for number, key in enumerate(keys, 1)]


def encrypt(reader: Reader, writer: Writer, recipients: Sequence[Recipient]) -> None:
    """Everything from the reader to the writer, for all recipients; with none it is copied as it is."""
    if recipients:
        pyrage.encrypt_io(reader, writer, list(recipients))
    else:
        _copy(reader, writer)


def decrypt(reader: Reader, writer: Writer, identities: Sequence[Identity]) -> None:
    """The opposite of :func:`encrypt` with recipients.

    Raises:
        NoIdentityError: no identity fits, or the list of recipients was changed.
        VerificationError: the ciphertext was changed.
    """
    try:
        pyrage.decrypt_io(reader, writer, list(identities))
    except pyrage.DecryptError as error:
        raise NoIdentityError(f"decryption failed: {error}", hint=_HINT) from error
    except OSError as error:
        raise VerificationError(f"decryption failed: {error}", hint=_HINT) from error


def _parse_recipient(text: str) -> Recipient:
    kinds: list[tuple[str, Any, type[Exception]]] = [
        ("age1tag", pyrage.tag, pyrage.RecipientError),
        ("age1", pyrage.x25519, pyrage.RecipientError),
    ]
    for prefix, module, failure in kinds:
        if text.startswith(prefix):
            try:
                return module.Recipient.from_str(text)
            except failure as error:
                raise UsageError(
                    f"BACKUP_AGE_RECIPIENTS: {text} is no public key: {error}", hint="copy it whole"
                ) from None
    shown = "a secret key" if text.upper().startswith("AGE-SECRET-KEY") else repr(text)
    raise UsageError(
        f"BACKUP_AGE_RECIPIENTS has {shown} where a public key belongs",
        hint="public keys begin with age1; print yours with: age-keygen -y identity.txt",
    )


def _parse_identity(key: str, number: int) -> Identity:
    try:
        return pyrage.x25519.Identity.from_str(key)
    except pyrage.IdentityError:
        raise UsageError(
            f"key {number} of the age identity cannot be read", hint="it must begin with AGE-SECRET-KEY-1"
        ) from None


def _copy(reader: Reader, writer: Writer) -> None:
    while data := reader.read(1 << 16):
        writer.write(data)
