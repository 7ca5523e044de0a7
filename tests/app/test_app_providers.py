"""The AI providers against a mock of theirs: a real HTTP server with their wire format."""

import inspect
import json
import math
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from ai.providers import (
    NotConfiguredError,
    ProviderError,
    RefusedError,
    TryLaterError,
    available,
    client,
    embedder,
    rpc_status,
    text_provider,
)
from ai.providers import (
    gemini as google,
)
from ai.providers import (
    perplexity as pplx,
)
from ai.providers.gemini import Gemini
from ai.providers.perplexity import Perplexity
from ai.providers.sandbox import Sandbox
from monitoring.metrics import AI_REQUESTS
from stack.standins import PerplexityStandIn
from stack.standins.perplexity import KEY


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PAUSE", 0.0)


@pytest.fixture
def gemini(outside: Any) -> Gemini:
    return Gemini(
        "AIza-secret",
        base_url=outside.url,
        model="flash",
        embedding_model="embed-1",
        image_model="nano-banana",
        video_model="veo",
        dimensions=3,
        timeout=2,
    )


@pytest.fixture
def perplexity(outside: Any) -> Perplexity:
    return Perplexity("pplx-secret", base_url=outside.url + "/", model="sonar", timeout=2)


@pytest.fixture
def counted() -> Any:
    """The increase of each outcome of a provider since the start of the test."""
    before = _outcomes()
    return lambda provider: {
        outcome: value - before.get((name, outcome), 0)
        for (name, outcome), value in _outcomes().items()
        if name == provider and value != before.get((name, outcome), 0)
    }


def _outcomes() -> Any:
    (family,) = AI_REQUESTS.collect()
    return {
        (sample.labels["provider"], sample.labels["outcome"]): sample.value
        for sample in family.samples
        if sample.name.endswith("_total")
    }


def gemini_says(*parts: Any, reason: str = "STOP") -> Any:
    return {
        "candidates": [
            {"content": {"role": "model", "parts": list(parts)}, "finishReason": reason, "index": 0},
        ],
        "usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 8, "totalTokenCount": 12},
        "modelVersion": "flash",
    }


def perplexity_says(text: Any) -> Any:
    return {
        "id": "1",
        "model": "sonar",
        "object": "chat.completion",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 4, "completion_tokens": 8, "total_tokens": 12},
        "citations": [],
    }


def test_gemini_writes(gemini: Gemini, outside: Any, counted: Callable[..., dict[str, float]]) -> None:
    outside.will_answer(
        200, gemini_says({"text": "thinking…", "thought": True}, {"text": "Fresh "}, {"text": "coffee\n"})
    )
    assert gemini.write("Be brief.", "Coffee") == "Fresh coffee"
    (request,) = outside.requests
    assert request.path == "/v1beta/models/flash:generateContent"
    assert request.headers["x-goog-api-key"] == "AIza-secret"
    assert request.json["contents"] == [{"role": "user", "parts": [{"text": "Coffee"}]}]
    assert request.json["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert counted("gemini") == {"success": 1}


def test_gemini_embeds_and_the_vector_has_length_one(gemini: Gemini, outside: Any) -> None:
    outside.will_answer(200, {"embedding": {"values": [3.0, 0.0, 4.0]}})
    vector = gemini.embed("Coffee")
    assert vector == pytest.approx([0.6, 0, 0.8])
    (request,) = outside.requests
    assert request.path == "/v1beta/models/embed-1:embedContent"
    assert request.json["model"] == "models/embed-1"
    assert request.json["outputDimensionality"] == 3


@pytest.mark.parametrize("values", [[1.0], [0.0, 0.0, 0.0]])
def test_a_vector_that_cannot_be_stored_is_refused(
    gemini: Gemini, outside: Any, values: list[float], counted: Callable[..., dict[str, float]]
) -> None:
    outside.will_answer(200, {"embedding": {"values": values}})
    with pytest.raises(RefusedError):
        gemini.embed("Coffee")
    assert counted("gemini") == {"invalid_response": 1}


def test_perplexity_writes_for_the_right_key_only(counted: Callable[..., dict[str, float]]) -> None:
    with PerplexityStandIn(text=" Fresh coffee ").running() as standin:

        def write(key: str) -> str:
            return Perplexity(key, base_url=standin.url, model="sonar", timeout=2).write(
                "Be brief.", "Coffee"
            )

        assert write(KEY) == "Fresh coffee"
        with pytest.raises(RefusedError, match="the API key is not accepted"):
            write("pplx-wrong")
        standin.failure = (200, b"<html>maintenance</html>")
        with pytest.raises(TryLaterError, match="not valid JSON"):
            write(KEY)
    assert counted("perplexity") == {"success": 1, "unauthorized": 1, "invalid_response": 2}


def test_perplexity_writes(
    perplexity: Perplexity, outside: Any, counted: Callable[..., dict[str, float]]
) -> None:
    outside.will_answer(200, perplexity_says(" Fresh coffee "))
    assert perplexity.write("Be brief.", "Coffee") == "Fresh coffee"
    (request,) = outside.requests
    assert request.path == "/chat/completions"
    assert request.headers["Authorization"] == "Bearer pplx-secret"
    assert request.json["model"] == "sonar"
    assert request.json["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Coffee"},
    ]
    assert counted("perplexity") == {"success": 1}


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ({"promptFeedback": {"blockReason": "SAFETY"}}, "blocked"),
        (gemini_says({"text": ""}, reason="MAX_TOKENS"), "empty"),
        ({"candidates": []}, "invalid_response"),
        ({"candidates": [{"finishReason": "SAFETY"}]}, "empty"),
        ({"candidates": [{"content": {"role": "model"}, "finishReason": "MAX_TOKENS"}]}, "empty"),
        ({"candidates": [None]}, "invalid_response"),
        ({"candidates": [{"content": {"parts": 5}}]}, "invalid_response"),
        ({"error": {"code": 500, "message": "in a 200"}}, "invalid_response"),
        ([], "invalid_response"),
        (None, "invalid_response"),
    ],
)
def test_gemini_answers_without_text(
    gemini: Gemini, outside: Any, counted: Callable[..., dict[str, float]], answer: Any, outcome: str
) -> None:
    outside.will_answer(200, answer)
    with pytest.raises(RefusedError):
        gemini.write("", "Coffee")
    assert counted("gemini") == {outcome: 1}
    assert len(outside.requests) == 1


def test_a_filter_that_stops_the_answer_is_named(gemini: Gemini, outside: Any) -> None:
    outside.will_answer(200, {"candidates": [{"finishReason": "PROHIBITED_CONTENT"}]})
    with pytest.raises(RefusedError, match=r"no text.*PROHIBITED_CONTENT"):
        gemini.write("", "Coffee")
    with pytest.raises(RefusedError, match=r"no image.*PROHIBITED_CONTENT"):
        gemini.draw("Coffee")


# The names that the readers look for, and others.
FIELDS = sorted(set(re.findall(r'"(\w+)"', inspect.getsource(google) + inspect.getsource(pplx))))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=12,
)


@examples(max_examples=300, deadline=None, derandomize=True)
@given(JSON)
def test_no_answer_whatever_causes_an_internal_error(answer: Any) -> None:
    """The class of such answers: valid JSON, an unexpected shape."""
    caller = client.Client("gemini", "http://127.0.0.1:1", {}, 1)
    vector = Gemini(
        "", base_url="", model="", embedding_model="", image_model="", video_model="", dimensions=1, timeout=1
    )._vector
    texts, files = (google._text, pplx._text), (google._image, google._video)
    for read in (*texts, *files, google._operation, google._operations, vector):
        with suppress(ProviderError):
            caller._understood(read, answer)


@pytest.mark.parametrize(
    ("details", "after"),
    [
        ([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "31s"}], 31),
        ([{}, {"retryDelay": "30.5s"}], 30.5),
        ([{"retryDelay": "soon"}, {"retryDelay": "-1s"}, {"retryDelay": None}], None),
        ({"retryDelay": "31s"}, None),
        ("x", None),
    ],
)
def test_the_delay_that_google_asks_for_is_in_the_body(details: Any, after: float | None) -> None:
    body = json.dumps({"error": {"code": 429, "details": details}}).encode()
    assert rpc_status.retry_delay(body) == after


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"[1]", b"null", b'{"error": "x"}', b"[" * 100_000])
def test_a_body_without_googles_details_has_no_delay(body: bytes) -> None:
    assert rpc_status.retry_delay(body) is None
    assert not rpc_status.is_wrong_key(body)


def test_a_limit_of_google_is_left_to_the_task_for_its_delay(gemini: Gemini, outside: Any) -> None:
    outside.will_answer(429, {"error": {"code": 429, "details": [{"retryDelay": "21s"}]}})
    with pytest.raises(TryLaterError) as caught:
        gemini.write("", "Coffee")
    assert caught.value.after == 21
    assert len(outside.requests) == 1


def test_a_wrong_key_is_named_although_google_answers_400(gemini: Gemini, outside: Any, counted: Any) -> None:
    outside.will_answer(400, {"error": {"code": 400, "details": [{"reason": "API_KEY_INVALID"}]}})
    with pytest.raises(RefusedError, match="the API key is not accepted"):
        gemini.write("", "Coffee")
    assert counted("gemini") == {"unauthorized": 1}


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(400, "rejected"), (401, "unauthorized"), (403, "unauthorized"), (404, "rejected"), (302, "rejected")],
)
def test_a_refusal_is_not_repeated(
    perplexity: Perplexity, outside: Any, counted: Callable[..., dict[str, float]], status: int, outcome: str
) -> None:
    outside.will_answer(status, {"error": {"message": "no"}})
    with pytest.raises(RefusedError) as caught:
        perplexity.write("", "Coffee")
    assert "pplx-secret" not in str(caught.value)
    assert counted("perplexity") == {outcome: 1}


@pytest.mark.parametrize(
    ("status", "outcome"), [(429, "rate_limited"), (500, "server_error"), (503, "server_error")]
)
def test_a_temporary_failure_is_tried_twice(
    perplexity: Perplexity, outside: Any, counted: Callable[..., dict[str, float]], status: int, outcome: str
) -> None:
    outside.will_answer(status)
    with pytest.raises(TryLaterError):
        perplexity.write("", "Coffee")
    assert counted("perplexity") == {outcome: 2}


def test_the_second_attempt_may_succeed(
    gemini: Gemini, outside: Any, counted: Callable[..., dict[str, float]]
) -> None:
    outside.will_answer(503)
    outside.will_answer(200, gemini_says({"text": "Fresh coffee"}))
    assert gemini.write("", "Coffee") == "Fresh coffee"
    assert counted("gemini") == {"server_error": 1, "success": 1}


def test_a_long_retry_after_is_left_to_the_task(
    perplexity: Perplexity, outside: Any, counted: Callable[..., dict[str, float]]
) -> None:
    outside.will_answer(429, None, Retry_After="40")
    with pytest.raises(TryLaterError) as caught:
        perplexity.write("", "Coffee")
    assert caught.value.after == 40
    assert counted("perplexity") == {"rate_limited": 1}


def test_an_answer_that_is_not_json(
    perplexity: Perplexity, outside: Any, counted: Callable[..., dict[str, float]]
) -> None:
    outside.will_answer(200, b"<html>")
    with pytest.raises(TryLaterError):
        perplexity.write("", "Coffee")
    assert counted("perplexity") == {"invalid_response": 2}


def test_no_answer_in_time(outside: Any, counted: Callable[..., dict[str, float]]) -> None:
    outside.hold = threading.Event()
    outside.will_answer(200)
    with pytest.raises(TryLaterError, match="in time"):
        Perplexity("key", base_url=outside.url, model="sonar", timeout=0.2).write("", "Coffee")
    assert counted("perplexity") == {"timeout": 2}


def test_no_server(counted: Callable[..., dict[str, float]]) -> None:
    with pytest.raises(TryLaterError, match="no connection"):
        Perplexity("key", base_url="http://127.0.0.1:1", model="sonar", timeout=1).write("", "Coffee")
    assert counted("perplexity") == {"connection_error": 2}


def test_every_outcome_has_a_series_before_it_happens() -> None:
    seen = {provider for provider, _ in _outcomes()}
    assert seen == {"gemini", "perplexity", "sandbox"}
    assert {outcome for _, outcome in _outcomes()} >= {"success", "timeout", "rate_limited", "server_error"}


class TestSandbox:
    def test_it_is_deterministic(self) -> None:
        one, two = Sandbox(dimensions=8), Sandbox(dimensions=8)
        assert one.write("", "Coffee") == two.write("", "Coffee")
        assert one.write("", "Coffee") != one.write("", "Tea")
        assert one.embed("Coffee") == two.embed("Coffee")

    def test_texts_with_shared_words_are_close(self) -> None:
        sandbox = Sandbox(dimensions=256)
        here, near, far = map(sandbox.embed, ("fresh coffee daily", "coffee daily", "winter tyres"))
        assert math.dist(here, near) < math.dist(here, far)
        assert math.hypot(*here) == pytest.approx(1)

    def test_failures_requested_in_the_text(self, counted: Callable[..., dict[str, float]]) -> None:
        sandbox = Sandbox(dimensions=8)
        with pytest.raises(RefusedError):
            sandbox.write("", "[sandbox:reject]")
        with pytest.raises(TryLaterError):
            sandbox.write("", "[sandbox:unreachable]")
        assert counted("sandbox") == {"rejected": 1, "timeout": 1}


class TestChoice:
    def test_keys_come_before_the_sandbox(self, settings: Any) -> None:
        settings.GEMINI_API_KEY = settings.PERPLEXITY_API_KEY = "key"
        assert available() == ["gemini", "perplexity", "sandbox"]
        assert text_provider("perplexity").name == "perplexity"
        assert embedder().name == "gemini"

    def test_without_keys_production_has_no_provider(self, settings: Any) -> None:
        settings.SANDBOX_ALLOWED = False
        assert available() == []
        for ask in (lambda: text_provider("sandbox"), lambda: text_provider("gemini"), embedder):
            with pytest.raises(NotConfiguredError):
                ask()
