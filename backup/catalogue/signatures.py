"""Shows who wrote the objects in the store: documents are signed with a key that the store does not have.

A signature is HMAC-SHA256 over the kind of document, a zero byte and the document's canonical JSON. The kind prevents a document of one kind from being accepted as another. Only the holder of the key can sign; write access to the store is not enough.
"""

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Literal, Self

from sidecar import UsageError

SHORTEST = 32

Trust = Literal["unchecked", "signed", "unsigned", "forged"]
"""``unchecked``: no key is configured, so every document counts. ``forged``: signed, but not with one of our keys."""


@dataclass(frozen=True)
class Seal:
    """A signature. ``key`` identifies the key without revealing it."""

    key: str
    mac: str


@dataclass(frozen=True)
class Keyring:
    """The keys of this deployment: the first one signs, and all of them are accepted.

    To replace a key, put the new one in front; what the old one signed remains valid until the old one is removed.
    """

    keys: tuple[bytes, ...] = field(default=(), repr=False)

    @classmethod
    def parse(cls, text: str, variable: str = "BACKUP_MANIFEST_KEY") -> Self:
        """Keys separated by commas or white space.

        Raises:
            UsageError: one is too short to be a secret. No key is repeated.
        """
        words = text.replace(",", " ").split()
        for number, word in enumerate(words, 1):
            if len(word) < SHORTEST:
                raise UsageError(
                    f"{variable}: key {number} has {len(word)} characters, at least {SHORTEST} are needed",
                    hint="create one with: openssl rand -hex 32",
                )
        return cls(tuple(word.encode() for word in words))

    def __bool__(self) -> bool:
        return bool(self.keys)

    def seal(self, domain: str, body: bytes) -> Seal | None:
        """Sign a document with the first key; None without keys."""
        return Seal(name_of(self.keys[0]), _mac(self.keys[0], domain, body)) if self.keys else None

    def judge(self, domain: str, body: bytes, key: str, mac: str) -> Trust:
        """The verdict on a document's signature.

        Args:
            key: the name of the key, as given in the document.
            mac: the signature; empty if it has none.
        """
        if not self.keys:
            return "unchecked"
        if not mac:
            return "unsigned"
        known = {name_of(each): each for each in self.keys}
        right = key in known and hmac.compare_digest(
            _mac(known[key], domain, body).encode(), mac.encode(errors="replace")
        )
        return "signed" if right else "forged"


NO_KEYS = Keyring()


def name_of(key: bytes) -> str:
    """A name for a key that reveals nothing about it: 12 hex digits."""
    return hashlib.sha256(b"posthub-ops key name\0" + key).hexdigest()[:12]


def _mac(key: bytes, domain: str, body: bytes) -> str:
    return hmac.new(key, domain.encode() + b"\0" + body, hashlib.sha256).hexdigest()
