"""Checks of what protects backups: keys, signatures, encryption, and what the settings expose."""

import io
from importlib.metadata import version

from backup.catalogue.signatures import name_of
from backup.confinement import strength
from backup.doctor.check import Check
from backup.exposure import short_secrets, unencrypted
from backup.pipeline.encrypt import decrypt, encrypt
from backup.wiring import Wiring
from sidecar.logs import SHORTEST_SECRET


def own_key(wiring: Wiring) -> str | Check:
    """Whether the off-site store has a separate key."""
    settings = wiring.settings
    if settings.offsite_s3_access_key_id is not None or not (settings.offsite_store_url or "").startswith(
        "s3:"
    ):
        return "separate"
    return Check(
        "store offsite: key",
        None,
        "the main store's: anyone who has that key can delete both copies",
        "set BACKUP_OFFSITE_S3_ACCESS_KEY_ID and BACKUP_OFFSITE_S3_SECRET_ACCESS_KEY; see docs/two-keys.md",
    )


def signatures(wiring: Wiring) -> str | Check:
    if wiring.keys:
        names = [name_of(key) for key in wiring.keys.keys]
        return f"signs with key {names[0]}, trusts {len(names)}"
    return Check(
        "signatures",
        None,
        "backups are NOT signed: anyone who can write to the store can forge one",
        "set BACKUP_MANIFEST_KEY_FILE; see docs/security.md",
    )


def encryption(wiring: Wiring) -> str | Check:
    if not wiring.packing.recipients:
        return Check(
            "encryption", None, "backups are NOT encrypted", "set BACKUP_AGE_RECIPIENTS; see docs/backup.md"
        )
    sealed = io.BytesIO()
    encrypt(io.BytesIO(b"probe"), sealed, wiring.packing.recipients)
    if not wiring.identities:
        return Check(
            "encryption",
            None,
            f"{len(wiring.packing.recipients)} recipients but no identity: backups cannot be verified here",
            "set BACKUP_AGE_IDENTITY_FILE, or verify on another host",
        )
    opened = io.BytesIO()
    sealed.seek(0)
    decrypt(sealed, opened, wiring.identities)
    return f"round trip for {len(wiring.packing.recipients)} recipients (pyrage {version('pyrage')})"


def connections(wiring: Wiring) -> str | Check:
    if found := list(unencrypted(wiring)):
        return Check("connections", None, "; ".join(found), "use TLS outside of a private network")
    return "encrypted, or within this host"


def secrets(wiring: Wiring) -> str | Check:
    if short := short_secrets(wiring):
        have = "one has" if short == 1 else f"{short} have"
        return Check(
            "secrets",
            None,
            f"{have} fewer than {SHORTEST_SECRET} characters: too short to be masked in logs and messages",
            "use a longer password",
        )
    return "long enough to be masked in logs"


def confinement() -> str | Check:
    """Whether programs that touch restored content can be kept from our keys, files and network."""
    found = strength()
    if not found.lacking:
        return f"Landlock, version {found.version}: files, TCP, signals"
    fix = "use a kernel with Landlock (5.13 or newer; 6.12 for all restrictions); see docs/security.md"
    return Check("confinement", None, f"this kernel does not restrict: {', '.join(found.lacking)}", fix)
