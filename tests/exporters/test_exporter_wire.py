"""Frames: captured ones, other serializers, and everything else that may arrive on the channel."""

import contextlib
import itertools
import json
import struct
from base64 import b64encode
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu import serialization

from bench.exporter.frames import frame as enveloped
from exporters.broker import parse_broker, redis_settings
from exporters.decode import UndecodableError, decode_all, decode_general, typed
from exporters.events.deliveries import HEARTBEAT, Deliveries
from exporters.events.receiver import RedisReceiver
from exporters.events.redis import Batch
from exporters.events.sockets import DisconnectedError
from exporters.tables.groups import SUCCEEDED
from exporters.tables.state import EventState
from tests.exporters.exporterkit import captured, decoded

SEEDS = captured()


def test_captured_frames_decode_alike_on_both_paths(frames: list[bytes]) -> None:
    for frame in frames:
        assert decoded(frame) == [typed(event) for event in decode_general(frame)]


def test_captured_frames_contain_every_kind_of_event(frames: list[bytes]) -> None:
    kinds = {event.type for frame in frames for event in decoded(frame)}
    assert kinds >= {
        "task-sent",
        "task-received",
        "task-started",
        "task-succeeded",
        "task-failed",
        "task-retried",
        "task-revoked",
        "task-rejected",
        "worker-online",
        "worker-heartbeat",
        "worker-offline",
    }


@pytest.mark.parametrize("serializer", ["json", "yaml"])
@pytest.mark.parametrize("encoding", ["base64", None])
def test_other_serializers_and_encodings(serializer: str, encoding: str | None) -> None:
    event = {"type": "worker-heartbeat", "hostname": "a@b", "active": 1}
    content_type, content_encoding, body = serialization.dumps(event, serializer=serializer)
    raw: bytes = body if isinstance(body, bytes) else body.encode()
    envelope = {
        "properties": {"body_encoding": encoding} if encoding else {},
        "content-type": content_type,
        "content-encoding": content_encoding,
        "body": b64encode(raw).decode() if encoding else raw.decode(),
    }
    frame = json.dumps(envelope).encode()
    assert decode_general(frame) == [event]
    assert decoded(frame) == [typed(event)]


def test_msgpack_needs_no_further_package() -> None:
    """kombu cannot decode it where msgpack is not installed."""
    event = {"type": "worker-heartbeat", "hostname": "a@b", "active": 1}
    envelope = {
        "properties": {"body_encoding": "base64"},
        "content-type": "application/x-msgpack",
        "content-encoding": "binary",
        "body": b64encode(msgspec.msgpack.encode(event)).decode(),
    }
    assert decoded(json.dumps(envelope).encode()) == [typed(event)]


@pytest.mark.parametrize("content_type", ["application/x-yaml", "text/plain"])
def test_long_bodies_that_are_slow_to_decode_are_not_decoded(content_type: str) -> None:
    envelope = {"body": "- a: 1\n" * 50_000, "content-encoding": "utf-8", "content-type": content_type}
    frame = json.dumps(envelope).encode()
    with pytest.raises(UndecodableError, match="too long"):
        decode_general(frame)
    assert decode_all([frame]) == ([], 1)


def test_pickle_is_never_loaded() -> None:
    body = b64encode(b"cos\nsystem\n(S'true'\ntR.").decode()
    envelope = {
        "body": body,
        "content-encoding": "binary",
        "content-type": "application/x-python-serialize",
        "properties": {"body_encoding": "base64"},
    }
    frame = json.dumps(envelope).encode()
    with pytest.raises(UndecodableError, match="not decoded"):
        decode_general(frame)
    assert decode_all([frame]) == ([], 1)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b'{"body": "',
        b'{"body": "e30="}',
        b'{"body": {}}',
        b'{"body": "W10=", "content-encoding": "utf-8", "content-type": "application/json", "properties": 1}',
        (
            b'{"body": "NQ==", "content-encoding": "utf-8", "content-type": "application/json", "properties": '
            b'{"body_encoding": "base64"}}'
        ),
        b"[" * 100_000,
    ],
)
def test_foreign_frames_are_refused_or_empty(frame: bytes) -> None:
    assert decode_all([frame, SEEDS[0]]) in [(decoded(SEEDS[0]), refused) for refused in (0, 1)]


@given(st.sampled_from(SEEDS), st.data())
def test_damaged_frames_never_raise_anything_else(frame: Any, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(frame) - 1))
    cut = data.draw(st.integers(0, 40))
    noise = data.draw(st.binary(max_size=20))
    events, refused = decode_all([frame[:at] + noise + frame[at + cut :], *SEEDS])
    assert refused <= 1
    assert len(events) >= sum(len(decoded(seed)) for seed in SEEDS)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.lists(JSON, max_size=4) | JSON)
def test_any_json_in_the_usual_envelope_is_counted(value: Any) -> None:
    state = EventState()
    receiver = RedisReceiver(redis_settings(parse_broker("redis://127.0.0.1:1/0")), state)
    receiver.count(Batch([enveloped(json.dumps(value), "w@h", "task.multi"), *SEEDS], 0))
    assert state.groups.get("shop.add", "default").total().counts[SUCCEEDED] == 7


@given(JSON)
def test_any_json_is_an_event_list_or_undecodable(value: Any) -> None:
    try:
        frame = orjson.dumps(value)
    except (TypeError, ValueError):
        return
    events, refused = decode_all([frame])
    assert not events or not refused


# AMQP


def amqp_frame(kind: int, payload: bytes, channel: int = 1) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def delivered(
    body: Any, *, kind: str = "application/json", encoding: str | None = "utf-8", part: int = 1 << 17
) -> bytes:
    """A message as RabbitMQ delivers it to a consumer."""
    short = [(flag, text.encode()) for flag, text in ((0x8000, kind), (0x4000, encoding)) if text is not None]
    flags = sum(flag for flag, _ in short) | 0x1000
    properties = b"".join(bytes([len(text)]) + text for _, text in short) + b"\x01"
    header = struct.pack(">HHQH", 60, 0, len(body), flags) + properties
    parts = [body[at : at + part] for at in range(0, len(body), part)]
    frames = [amqp_frame(1, struct.pack(">HH", 60, 60) + b"\x04ctag"), amqp_frame(2, header)]
    return b"".join([*frames, *(amqp_frame(3, one) for one in parts)])


@given(st.lists(st.binary(max_size=300), max_size=6), st.data())
def test_deliveries_are_whole_however_their_bytes_arrive(bodies: Any, data: st.DataObject) -> None:
    stream = HEARTBEAT.join(delivered(body, part=data.draw(st.integers(1, 400))) for body in bodies)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=10)))
    deliveries, found = Deliveries(), []
    for start, end in itertools.pairwise([0, *cuts, len(stream)]):
        found += deliveries.feed(stream[start:end])
    assert found == [("application/json", "utf-8", body) for body in bodies]


@pytest.mark.parametrize("kind", [None, "text/plain", "x" * 255])
@pytest.mark.parametrize("encoding", [None, "binary", ""])
def test_the_content_of_deliveries_is_read(kind: Any, encoding: str | None) -> None:
    assert Deliveries().feed(delivered(b"x", kind=kind, encoding=encoding)) == [
        (kind or "", encoding or "utf-8", b"x")
    ]


def test_a_body_that_is_too_long_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporters.events.deliveries.LONGEST_BODY", 100)
    stream = delivered(b"x" * 1000, part=50) + delivered(b"y")
    assert Deliveries().feed(stream) == [
        ("application/json", "utf-8", b""),
        ("application/json", "utf-8", b"y"),
    ]


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (amqp_frame(1, struct.pack(">HHH", 10, 50, 320) + b"\x04gone"), "320 gone"),
        (amqp_frame(1, struct.pack(">HHH", 20, 40, 404) + b"\x02no"), "404 no"),
        (amqp_frame(1, struct.pack(">HH", 60, 30)), "cancelled"),
        (amqp_frame(1, b"x"), "malformed"),
        (amqp_frame(2, b"x"), "malformed"),
        (amqp_frame(3, b"a body without a header"), "longer"),
        (b"HTTP/1.1 400 Bad Request", "not the AMQP protocol"),
        (amqp_frame(8, b"")[:-1] + b"x", "not the AMQP protocol"),
    ],
)
def test_the_end_of_a_consumer_is_an_error(frames: Any, message: str) -> None:
    with pytest.raises(DisconnectedError, match=message):
        Deliveries().feed(frames)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parser_of_deliveries(data: bytes) -> None:
    with contextlib.suppress(DisconnectedError):
        Deliveries().feed(data)
