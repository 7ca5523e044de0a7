"""Frames: captured ones, other serializers, and whatever else may arrive on the channel."""

import contextlib
import json
from base64 import b64encode

import orjson
import pytest
from exporterkit import captured
from hypothesis import given
from hypothesis import strategies as st
from kombu import serialization

from bench.exporter.frames import frame as enveloped
from exporters.broker import parse_broker, redis_settings
from exporters.decode import UndecodableError, decode, decode_general, typed
from exporters.events.receiver import RedisReceiver
from exporters.events.redis import Batch
from exporters.tables.groups import SUCCEEDED
from exporters.tables.state import EventState


def test_captured_frames_decode_alike_on_both_paths(frames):
    for frame in frames:
        assert decode(frame) == [typed(event) for event in decode_general(frame)]


def test_captured_frames_hold_every_kind_of_event(frames):
    kinds = {event.type for frame in frames for event in decode(frame)}
    assert kinds >= {
        "task-sent", "task-received", "task-started", "task-succeeded", "task-failed", "task-retried",
        "task-revoked", "task-rejected", "worker-online", "worker-heartbeat", "worker-offline",
    }  # fmt: skip


@pytest.mark.parametrize("serializer", ["json", "yaml"])
@pytest.mark.parametrize("encoding", ["base64", None])
def test_other_serializers_and_encodings(serializer, encoding):
    event = {"type": "worker-heartbeat", "hostname": "a@b", "active": 1}
    content_type, content_encoding, body = serialization.dumps(event, serializer=serializer)
    raw = body if isinstance(body, bytes) else body.encode()
    envelope = {
        "properties": {"body_encoding": encoding} if encoding else {},
        "content-type": content_type,
        "content-encoding": content_encoding,
        "body": b64encode(raw).decode() if encoding else raw.decode(),
    }
    frame = json.dumps(envelope).encode()
    assert decode_general(frame) == [event]
    assert decode(frame) == [typed(event)]


@pytest.mark.parametrize("content_type", ["application/x-yaml", "text/plain", "application/x-msgpack"])
def test_long_bodies_that_are_slow_to_decode_are_not_decoded(content_type):
    envelope = {"body": "- a: 1\n" * 50_000, "content-encoding": "utf-8", "content-type": content_type}
    with pytest.raises(UndecodableError, match="too long"):
        decode(json.dumps(envelope).encode())


def test_pickle_is_never_loaded():
    body = b64encode(b"cos\nsystem\n(S'true'\ntR.").decode()
    envelope = {
        "body": body,
        "content-encoding": "binary",
        "content-type": "application/x-python-serialize",
        "properties": {"body_encoding": "base64"},
    }
    with pytest.raises(UndecodableError, match="not decoded"):
        decode(json.dumps(envelope).encode())


@pytest.mark.parametrize(
    "frame",
    [
        b"", b"{}", b"[]", b"null", b'"text"', b"\xff\xfe", b'{"body": "', b'{"body": "e30="}', b'{"body": {}}',
        b'{"body": "W10=", "content-encoding": "utf-8", "content-type": "application/json", "properties": 1}',
        (b'{"body": "NQ==", "content-encoding": "utf-8", "content-type": "application/json", "properties": '
        b'{"body_encoding": "base64"}}'),
        b"[" * 100_000,
    ],
)  # fmt: skip
def test_foreign_frames_are_refused_or_empty(frame):
    with contextlib.suppress(UndecodableError):
        assert decode(frame) == []


SEEDS = captured()


@given(st.sampled_from(SEEDS), st.data())
def test_damaged_frames_never_raise_anything_else(frame, data):
    at = data.draw(st.integers(0, len(frame) - 1))
    cut = data.draw(st.integers(0, 40))
    noise = data.draw(st.binary(max_size=20))
    try:
        events = decode(frame[:at] + noise + frame[at + cut :])
    except UndecodableError:
        return
    assert isinstance(events, list)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.lists(JSON, max_size=4) | JSON)
def test_any_json_in_the_usual_envelope_is_counted(value):
    state = EventState()
    receiver = RedisReceiver(redis_settings(parse_broker("redis://127.0.0.1:1/0")), state)
    receiver.count(Batch([enveloped(json.dumps(value), "w@h", "task.multi"), *SEEDS], 0))
    assert state.groups.get("shop.add", "default").total().counts[SUCCEEDED] == 7


@given(JSON)
def test_any_json_is_an_event_list_or_undecodable(value):
    try:
        frame = orjson.dumps(value)
    except (TypeError, ValueError):
        return
    with contextlib.suppress(UndecodableError):
        assert isinstance(decode(frame), list)
