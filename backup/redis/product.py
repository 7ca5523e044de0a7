"""Distinguishes Redis and Valkey: servers, RDB files, and the programs that can load a file.

Valkey reports ``redis_version:7.2.4`` for the sake of old clients; ``valkey_version`` is its own version. The signature of an RDB is
``REDIS`` and four digits, or from Valkey 9 on ``VALKEY`` and three (``src/rdb.h`` of each).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backup.programs import Programs

SIGNATURE_BYTES = 16
_SIGNATURE = re.compile(rb"(?P<product>REDIS|VALKEY)(?P<version>\d{3,4})")
# The newest RDB version that each version of Redis loads. For versions newer than the last, loading is simply tried.
_REDIS = (((7, 4), 12), ((7, 2), 11), ((7, 0), 10), ((0, 0), 9))
_KNOWN_REDIS = (8, 2)
# Valkey loads Redis' files up to this version, and its own from 9 on.
_VALKEY_OF_REDIS = 11
# Modules that are part of a server's program.
_BUILT_IN = frozenset({"vectorset", "lua"})


@dataclass(frozen=True)
class Product:
    """``redis`` or ``valkey``, and a version such as ``9.1.2``."""

    name: str
    version: str

    @property
    def numbers(self) -> tuple[int, int]:
        """Major and minor version."""
        found = [int(part) for part in re.findall(r"\d+", self.version)[:2]]
        return (*found, 0, 0)[0], (*found, 0, 0)[1]

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class Signature:
    """The kind of an RDB, from its first bytes."""

    product: str
    version: int

    def __str__(self) -> str:
        return f"REDIS{self.version:04}" if self.product == "redis" else f"VALKEY{self.version:03}"


def product_of(info: Mapping[str, Any]) -> Product:
    """The product that a server reports."""
    if "valkey_version" in info:
        return Product("valkey", str(info["valkey_version"]))
    return Product("redis", str(info["redis_version"]))


def signature(data: bytes) -> Signature | None:
    """The signature at the beginning of an RDB; None if it has none."""
    found = _SIGNATURE.match(data)
    return Signature(found["product"].decode().lower(), int(found["version"])) if found else None


def program(programs: Programs, part: str, preferred: str = "redis") -> str:
    """The name of an available program, such as ``redis-server`` or ``valkey-server``.

    Args:
        part: ``server`` or ``check-rdb``.

    Raises:
        PreflightError: neither product's program is installed here.
    """
    other = "redis" if preferred == "valkey" else "valkey"
    names = (f"{preferred}-{part}", f"{other}-{part}")
    return next((name for name in names if programs.has(name)), names[0])


def product_here(programs: Programs, preferred: str = "redis") -> Product:
    """The product whose server program is installed here.

    Raises:
        PreflightError: there is none.
    """
    name = program(programs, "server", preferred)
    return Product(name.partition("-")[0], programs.version(name))


def modules_of(info: Mapping[str, Any]) -> list[str]:
    """The modules that a server has loaded from files, by its INFO."""
    names = [str(each.get("name")) for each in info.get("modules", []) if isinstance(each, dict)]
    return [name for name in names if name not in _BUILT_IN]


def refusal(file: Signature, here: Product) -> str:
    """Why a program does not load a file; empty if it does, or if that is not known."""
    if here.name == "valkey":
        own = file.product == "valkey" and here.numbers >= (9, 0)
        loads = own or (file.product == "redis" and file.version <= _VALKEY_OF_REDIS)
    elif file.product == "valkey":
        loads = False
    else:
        newest = next(known for since, known in _REDIS if here.numbers >= since)
        loads = file.version <= newest or here.numbers > _KNOWN_REDIS
    return "" if loads else f"the RDB is {file}, which {here} does not load"


def head(rdb: Path) -> bytes:
    """The first bytes of a file."""
    with rdb.open("rb") as file:
        return file.read(SIGNATURE_BYTES)
