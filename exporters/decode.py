"""Decode of one event frame: what a worker or a client publishes, as it comes off the broker.

A frame is kombu's JSON envelope around the event body. Nearly all frames have the shape that Celery's defaults
produce (a base64 body of JSON as the first member), and for these the body is sliced out without a parse of
the envelope. Anything else takes the general way: parse the envelope, decode by its declared content type.
"""

from binascii import a2b_base64
from typing import Any

import orjson

Event = dict[str, Any]

BODY_START = b'{"body": "'
_BODY_AT = len(BODY_START)
# What follows the body in a frame of the usual shape; anything else must be looked at more closely.
USUAL_REST = b'", "content-encoding": "utf-8", "content-type": "application/json", '

# Formats that kombu can decode and that cannot run code. Pickle never: the broker is no trusted source.
SAFE_CONTENT = frozenset({"application/json", "application/x-yaml", "application/x-msgpack", "text/plain"})
# Their decoders are slow: a second of YAML is 30 kB, and the reader must not stand still for it.
LONGEST_OTHER = 1 << 14


class UndecodableError(ValueError):
    """A frame is no Celery event in a format that is safe to decode."""


def decode(frame: bytes) -> list[Event]:
    """The events in one frame. Only the frame is checked: a list may hold members that are no events.

    Raises:
        UndecodableError: the frame is no Celery event.
    """
    if frame.startswith(BODY_START):
        end = frame.find(b'"', _BODY_AT)
        if frame.startswith(USUAL_REST, end):
            try:
                body = orjson.loads(a2b_base64(frame[_BODY_AT:end]))
            except ValueError:
                return decode_general(frame)
            if body.__class__ is list:
                return body
            if body.__class__ is dict:
                return [body]
    return decode_general(frame)


def decode_general(frame: bytes) -> list[Event]:
    """Decode a frame of any shape that kombu can produce.

    Raises:
        UndecodableError: the frame is no Celery event.
    """
    try:
        envelope = orjson.loads(frame)
        content_type = envelope["content-type"]
        properties = envelope.get("properties") or {}
        body = _body_bytes(envelope["body"], properties.get("body_encoding"))
        encoding = envelope.get("content-encoding") or "utf-8"
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UndecodableError(f"{type(error).__name__}: {error}") from None
    return decode_body(body, content_type, encoding)


def decode_body(body: bytes, content_type: str, encoding: str) -> list[Event]:
    """Decode a message's body by its declared content type.

    Raises:
        UndecodableError: it is no Celery event in a format that is safe to decode.
    """
    try:
        if content_type == "application/json":
            return _events(orjson.loads(body))
        return _events(_by_kombu(body, content_type, encoding))
    except UndecodableError:
        raise
    except Exception as error:  # a serializer may raise anything on foreign bytes
        raise UndecodableError(f"{type(error).__name__}: {error}") from None


def _body_bytes(body: Any, encoding: str | None) -> bytes:
    if isinstance(body, str):
        return a2b_base64(body, strict_mode=True) if encoding == "base64" else body.encode()
    raise UndecodableError("the body is no text")


def _by_kombu(body: bytes, content_type: str, encoding: str) -> Any:
    # kombu is not needed for the usual frames, and costs memory; only unusual ones load it.
    from kombu.serialization import loads

    if content_type not in SAFE_CONTENT:
        raise UndecodableError(f"content type {content_type!r} is not decoded")
    if len(body) > LONGEST_OTHER:
        raise UndecodableError(f"{len(body)} bytes of {content_type!r} are too long to decode")
    return loads(body, content_type, encoding, accept=SAFE_CONTENT)


def _events(body: Any) -> list[Event]:
    events = body if isinstance(body, list) else [body]
    if not all(isinstance(event, dict) for event in events):
        raise UndecodableError("the body holds no event")
    return events
