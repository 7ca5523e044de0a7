"""Decodes event frames: what a worker or a client publishes, as it arrives from the broker.

A frame is kombu's JSON envelope around the event body. Nearly all frames have the shape that Celery's defaults
produce (a base64 body of JSON as the first member). For these the body is sliced out without parsing the envelope,
and decoded straight into :class:`Event`. Every other frame takes the general path: parse the envelope, then decode
the body by its declared content type.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
import orjson
import pybase64

BODY_START = b'{"body": "'
_BODY_AT = len(BODY_START)
# What follows the body in a frame of the usual shape. Any other frame is decoded by the general path.
USUAL_REST = b'", "content-encoding": "utf-8", "content-type": "application/json", '

# Formats that kombu can decode and that cannot run code. Pickle is never decoded: the broker is not trusted.
MSGPACK = "application/x-msgpack"
SAFE_CONTENT = frozenset({"application/json", "application/x-yaml", MSGPACK, "text/plain"})
# Their decoders are slow: 30 kB of YAML takes a second, and the receiver must not stall for it.
LONGEST_OTHER = 1 << 14
_LIST = ord("[")


class Event(msgspec.Struct, gc=False, kw_only=True):
    """The fields of an event that the exporter reads, under Celery's names. Times are epoch seconds by the sender's clock.

    Only ``type`` is required: a missing optional field must not keep an event from being counted. An empty ``type``
    marks a malformed event. The fields are in the order in which Celery writes them, which the decoder expects: another
    order costs a search for each field.
    """

    hostname: str = ""
    pid: int | None = None
    uuid: str = ""
    name: str | None = None
    retries: int | None = 0
    eta: str | None = None
    queue: str | None = None
    exchange: str | None = None
    routing_key: str | None = None
    exception: Any = None
    traceback: Any = None
    terminated: Any = None
    expired: Any = None
    requeue: Any = None
    runtime: float | None = None
    freq: float | None = None
    active: int | None = None
    processed: int | None = None
    loadavg: Any = None
    timestamp: float | None = None
    type: str


MALFORMED = Event(type="")
_one = msgspec.json.Decoder(Event).decode
_many = msgspec.json.Decoder(list[Event]).decode
_b64decode = pybase64.b64decode


class UndecodableError(ValueError):
    """A frame is not a Celery event in a format that is safe to decode."""


def decode_all(frames: Iterable[bytes]) -> tuple[list[Event], int]:
    """The events in frames, in order, and the number of frames that are not Celery events.

    Malformed members of a frame with several events are returned as :data:`MALFORMED`.
    """
    events, refused = list[Event](), 0
    add, extend = events.append, events.extend
    for frame in frames:
        if frame.startswith(BODY_START):
            end = frame.find(b'"', _BODY_AT)
            if frame.startswith(USUAL_REST, end):
                try:
                    body = _b64decode(frame[_BODY_AT:end])
                    if body[0] == _LIST:
                        extend(_many(body))
                    else:
                        add(_one(body))
                    continue
                except (ValueError, IndexError):
                    pass
        try:
            extend([typed(event) for event in decode_general(frame)])
        except UndecodableError:
            refused += 1
    return events, refused


def typed(event: Any) -> Event:
    """An event from its decoded JSON object."""
    try:
        return msgspec.convert(event, Event)
    except msgspec.ValidationError:
        kind = event.get("type") if isinstance(event, dict) else None
        # Fields that Celery's own types require are missing; an application's event requires none.
        return Event(type=kind) if isinstance(kind, str) else MALFORMED


def decode_general(frame: bytes) -> list[Any]:
    """The JSON objects in a frame of any shape that kombu can produce, with all their members.

    Raises:
        UndecodableError: the frame is not a Celery event.
    """
    try:
        envelope = orjson.loads(frame)
        content_type = envelope["content-type"]
        properties = envelope.get("properties") or {}
        body = _body_bytes(envelope["body"], properties.get("body_encoding"))
        encoding = envelope.get("content-encoding") or "utf-8"
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UndecodableError(f"{type(error).__name__}: {error}") from None
    return objects(body, content_type, encoding)


def decode_body(body: bytes, content_type: str, encoding: str) -> list[Event]:
    """The events in a message's body, decoded by its declared content type.

    Raises:
        UndecodableError: it is not a Celery event in a format that is safe to decode.
    """
    if content_type == "application/json":
        try:
            return _many(body) if body[:1] == b"[" else [_one(body)]
        except ValueError:
            pass
    return [typed(event) for event in objects(body, content_type, encoding)]


def objects(body: bytes, content_type: str, encoding: str) -> list[Any]:
    """The JSON objects in a message's body, with all their members.

    Raises:
        UndecodableError: it is not a Celery event in a format that is safe to decode.
    """
    try:
        if content_type == "application/json":
            return _events(orjson.loads(body))
        if content_type == MSGPACK:
            # kombu decodes it only with a package that neither it nor Celery installs.
            return _events(msgspec.msgpack.decode(body))
        return _events(_by_kombu(body, content_type, encoding))
    except UndecodableError:
        raise
    except Exception as error:  # a serializer may raise anything on malformed bytes
        raise UndecodableError(f"{type(error).__name__}: {error}") from None


def _body_bytes(body: Any, encoding: str | None) -> bytes:
    if isinstance(body, str):
        return pybase64.b64decode(body, validate=True) if encoding == "base64" else body.encode()
    raise UndecodableError("the body is not text")


def _by_kombu(body: bytes, content_type: str, encoding: str) -> Any:
    # The usual frames do not need kombu, and it costs memory: only unusual frames load it.
    from kombu.serialization import loads

    if content_type not in SAFE_CONTENT:
        raise UndecodableError(f"content type {content_type!r} is not decoded")
    if len(body) > LONGEST_OTHER:
        raise UndecodableError(f"{len(body)} bytes of {content_type!r} are too long to decode")
    return loads(body, content_type, encoding, accept=SAFE_CONTENT)


def _events(body: Any) -> list[Any]:
    events = body if isinstance(body, list) else [body]
    if not isinstance(body, list | dict):
        raise UndecodableError("the body does not contain an event")
    return events
