"""The only parser of what is stored. Anyone may have written those bytes, so nothing about them is trusted.

Whatever the bytes are, :func:`decode` returns a document within bounds or raises
:class:`~backup.errors.CatalogueError`; no other exception, whatever the nesting, numbers, dates or characters.
"""

import hashlib
import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, NoReturn, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from backup.catalogue import canonical
from backup.catalogue.signatures import NO_KEYS, Keyring, Trust
from backup.errors import CatalogueError

FORMAT = 2
_KNOWN = (1, 2)
# The limits of SQL's bigint, from which counts of rows and bytes come.
_MOST = 2**63 - 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# More values than a manifest of any server has. Each takes many times the memory of its text.
_MAX_VALUES = 3_000_000
_SEAL = ("digest", "key", "mac")
# What the standard library and pydantic raise for bytes that are not such a document.
_FAULTS = (ValueError, RecursionError, OverflowError, TypeError, MemoryError)
_EARLIEST, _LATEST = datetime(1970, 1, 2, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _within(moment: datetime) -> datetime:
    if not _EARLIEST <= moment <= _LATEST:
        raise ValueError("a date out of bounds")
    return moment


def _plain(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("not a plain name")
    return name


Count = Annotated[int, Field(ge=0, le=_MOST)]
Position = Annotated[int, Field(ge=-_MOST - 1, le=_MOST)]
Seconds = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Moment = Annotated[AwareDatetime, AfterValidator(_within)]
Name = Annotated[str, AfterValidator(_plain)]
"""The name of a file in a folder: it cannot lead anywhere else."""


class Part(BaseModel):
    """Base of everything in a document: values are immutable, and unknown fields are dropped."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Document(Part):
    """Base of what is stored as one object: a manifest, a report, an attempt.

    Attributes:
        kind_of_document: the kind that signatures are bound to.
        max_bytes: larger objects are not read.
        always_sealed: whether format 1 had a digest too.
    """

    kind_of_document: ClassVar[str]
    max_bytes: ClassVar[int] = 1 << 20
    always_sealed: ClassVar[bool] = False

    format: int = FORMAT
    digest: str = Field(default="", description="SHA-256 of this document without its digest, key and mac")
    key: str = Field(default="", description="name of the key that signed it")
    mac: str = Field(default="", description="its signature; empty if no key is configured")


D = TypeVar("D", bound=Document)


def encode(document: Document, keys: Keyring = NO_KEYS) -> bytes:
    """The bytes that are stored: canonical JSON with its digest and, if there is a key, its signature."""
    value = document.model_dump(mode="json", by_alias=True, exclude=set(_SEAL))
    value["format"] = FORMAT
    texts = canonical.members(value)
    body = canonical.joined(texts)
    seal = keys.seal(document.kind_of_document, body)
    signature = {"key": seal.key, "mac": seal.mac} if seal else {}
    digest = hashlib.sha256(body).hexdigest()
    return canonical.joined({**texts, **canonical.members({"digest": digest, **signature})})


def decode(kind: type[D], data: bytes, where: str, keys: Keyring = NO_KEYS) -> tuple[D, Trust]:
    """Read stored bytes.

    Returns:
        The document, and the verdict on its signature.

    Raises:
        CatalogueError: they are damaged, out of bounds or of a format that this version does not know.
    """
    if len(data) > kind.max_bytes:
        raise too_large(kind, len(data), where)
    if len(data) > _MAX_VALUES and sum(data.count(each) for each in (b",", b"[", b"{")) > _MAX_VALUES:
        raise damaged(where, f"it has more than {_MAX_VALUES} values")
    try:
        value = _DECODER.decode(data.decode())
        if not isinstance(value, dict):
            raise damaged(where, "it is not a JSON object")
        known = _format(value.get("format", None if kind.always_sealed else 1), where)
        seal = {name: value.pop(name, "") for name in _SEAL}
        texts = canonical.members(value)
        body = canonical.joined(texts)
        if known > 1 or kind.always_sealed or any(seal.values()):
            _check(seal, texts, body, data, where)
        document = kind.model_validate({**value, **seal, "format": known})
        return document, keys.judge(kind.kind_of_document, body, seal["key"], seal["mac"])
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(each) for each in first["loc"])
        raise damaged(where, f"{place}: {first['msg']}") from None
    except _FAULTS as error:
        raise damaged(where, f"it is not JSON within bounds ({type(error).__name__})") from None


def too_large(kind: type[Document], size: int, where: str) -> CatalogueError:
    """The error for an object that is too large to be read."""
    return damaged(where, f"it has {size} bytes, at most {kind.max_bytes} are read")


def damaged(where: str, how: str) -> CatalogueError:
    return CatalogueError(
        f"{where} is damaged: {how}",
        hint="restore from another backup; take a new one with: python -m backup run",
    )


def _format(known: object, where: str) -> int:
    if type(known) is not int or known not in _KNOWN:
        raise CatalogueError(
            f"{where} has format {str(known)[:20]}; this version reads formats {' and '.join(map(str, _KNOWN))}",
            hint="use the version that wrote it",
        )
    return known


def _check(seal: dict[str, Any], texts: dict[str, str], body: bytes, data: bytes, where: str) -> None:
    digest = hashlib.sha256(body).hexdigest()
    if seal["digest"] != digest:
        raise damaged(where, f"its digest is {digest}, but it states {str(seal['digest'])[:64]}")
    # We never write other bytes of the same meaning, such as a repeated key.
    sealed = canonical.members({name: text for name, text in seal.items() if text != ""})
    if data != canonical.joined({**texts, **sealed}):
        raise damaged(where, "it is not in canonical form")
