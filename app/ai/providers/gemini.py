"""Google Gemini: text and images from generateContent, embeddings from embedContent, videos from predictLongRunning."""

import base64
import math
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import urlencode

from ai.providers.base import RefusedError, TryLaterError, UncertainError
from ai.providers.client import Client, dig

API = "/v1beta"
VERSION = f"{API}/models"
# Part of a path, so it must not be able to lead elsewhere.
OPERATION = re.compile(r"(models/\w[\w.-]{1,80}/)?operations/[\w-]{1,100}", re.ASCII)
# Of the list of operations: how many are on a page, and how many pages are read. An account has a few dozen in two days.
PAGE, PAGES = 100, 10


class Gemini:
    name = "gemini"

    def __init__(
        self,
        key: str,
        *,
        base_url: str,
        model: str,
        embedding_model: str,
        image_model: str,
        video_model: str,
        dimensions: int,
        timeout: float,
    ) -> None:
        self._client = Client(self.name, base_url, {"x-goog-api-key": key}, timeout)
        self._model, self._embedding_model, self._dimensions = model, embedding_model, dimensions
        self._image_model, self._video_model = image_model, video_model

    def write(self, instruction: str, prompt: str) -> str:
        body = {
            "systemInstruction": {"parts": [{"text": instruction}]},
            "contents": [{"role": "user", "parts": [{"text": prompt}]}],
            "generationConfig": {"temperature": 0.8, "maxOutputTokens": 2048},
        }
        return self._client.post(f"{VERSION}/{self._model}:generateContent", body, _text)

    def draw(self, prompt: str) -> bytes:
        """An image by one of Google's image models ("Nano Banana").

        Raises:
            RefusedError: the prompt is refused, or the answer contains no image.
            TryLaterError: another attempt may succeed.
        """
        body = {
            "contents": [{"role": "user", "parts": [{"text": prompt}]}],
            "generationConfig": {"responseModalities": ["TEXT", "IMAGE"]},
        }
        return self._client.post(f"{VERSION}/{self._image_model}:generateContent", body, _image)

    def start(self, prompt: str, seconds: int) -> str:
        """Start a video by one of Google's video models ("Veo").

        The API has no idempotency key. A failure after which an operation may exist is an UncertainError.
        """
        body = {"instances": [{"prompt": prompt}], "parameters": {"durationSeconds": seconds}}
        try:
            path = f"{VERSION}/{self._video_model}:predictLongRunning"
            return self._client.post(path, body, _operation, tries=1)
        except TryLaterError as error:
            if error.ignored:
                raise
            raise UncertainError(str(error), error.outcome) from error
        except RefusedError as error:
            if error.outcome == "invalid_response":
                raise UncertainError(str(error), error.outcome) from error
            raise

    def operations(self) -> set[str] | None:
        """The operations of the video model, by the method `models.operations.list`.

        The API's description has it, but says that a server may answer UNIMPLEMENTED, and the list contains no prompts.
        """
        found: set[str] = set()
        token = ""
        for _ in range(PAGES):
            query = urlencode({"pageSize": PAGE, **({"pageToken": token} if token else {})})
            path = f"{VERSION}/{self._video_model}/operations?{query}"
            names, token = self._client.get(path, _operations)
            found |= names
            if not token:
                return found
        return None

    def poll(self, operation: str) -> str | None:
        return self._client.get(f"{API}/{_checked(operation)}", _video)

    def download(self, address: str) -> AbstractContextManager[Iterator[bytes]]:
        return self._client.download(address)

    def ping(self) -> None:
        """A harmless call: the description of a model, which costs nothing."""
        self._client.get(f"{VERSION}/{self._model}", lambda answer: dig(answer, "name"))

    def embed(self, text: str) -> list[float]:
        body = {
            "model": f"models/{self._embedding_model}",
            "content": {"parts": [{"text": text}]},
            "outputDimensionality": self._dimensions,
        }
        return self._client.post(f"{VERSION}/{self._embedding_model}:embedContent", body, self._vector)

    def _vector(self, answer: Any) -> list[float]:
        values = [float(value) for value in dig(answer, "embedding", "values")]
        length = math.hypot(*values)
        if len(values) != self._dimensions or not length:
            raise RefusedError(f"gemini sent a vector of {len(values)} dimensions", "invalid_response")
        # Gemini does not normalise shortened vectors.
        return [value / length for value in values]


def _image(answer: Any) -> bytes:
    """The first part with `inlineData`, which is base64."""
    parts, reason = _parts(answer)
    for part in parts:
        if "inlineData" in part and not part.get("thought"):
            try:
                return base64.b64decode(dig(part, "inlineData", "data"), validate=True)
            except (ValueError, TypeError):
                raise RefusedError(
                    "gemini sent an image that is not valid base64", "invalid_response"
                ) from None
    raise RefusedError(f"gemini returned no image ({reason})", "empty")


def _operation(answer: Any) -> str:
    return _checked(dig(answer, "name"))


def _operations(answer: Any) -> tuple[set[str], str]:
    """The names on a page, and the token of the next page."""
    names = {_checked(dig(operation, "name")) for operation in answer.get("operations", [])}
    return names, str(answer.get("nextPageToken") or "")


def _checked(name: Any) -> str:
    if not isinstance(name, str) or not OPERATION.fullmatch(name):
        raise RefusedError("gemini sent a name of an operation that is not valid", "invalid_response")
    return name


def _video(answer: Any) -> str | None:
    """The address in a finished operation.

    Its `error` is a google.rpc.Status. A video that Google's filter has withheld is missing, with the reasons.
    """
    if not isinstance(answer, dict) or "name" not in answer:
        # The operation continues at the provider, so a strange answer does not end it here.
        raise TryLaterError("the response from gemini is not an operation", "invalid_response")
    if not answer.get("done"):
        return None
    if "error" in answer:
        message = str(dig(answer, "error", "message"))[:300]
        raise RefusedError(f"gemini could not make the video: {message}", "rejected")
    response = dig(answer, "response", "generateVideoResponse")
    if not isinstance(response, dict) or not response.get("generatedSamples"):
        reasons = response.get("raiMediaFilteredReasons") if isinstance(response, dict) else None
        reason = str(reasons[0])[:300] if isinstance(reasons, list) and reasons else "no reason given"
        raise RefusedError(f"gemini withholds the video ({reason})", "blocked")
    return str(dig(response, "generatedSamples", 0, "video", "uri"))


def _parts(answer: Any) -> tuple[list[dict[str, Any]], str]:
    """The parts of the first candidate, and why it ends. One that a filter has stopped has no parts, or no content at all."""
    if blocked := (answer.get("promptFeedback") or {}).get("blockReason"):
        raise RefusedError(f"gemini refuses the prompt ({str(blocked)[:100]})", "blocked")
    candidate = dig(answer, "candidates", 0)
    parts = (candidate.get("content") or {}).get("parts") or []
    reason = str(candidate.get("finishReason") or "no reason given")[:100]
    return [part for part in parts if isinstance(part, dict)], reason


def _text(answer: Any) -> str:
    parts, reason = _parts(answer)
    text = "".join(str(part.get("text", "")) for part in parts if not part.get("thought")).strip()
    if not text:
        raise RefusedError(f"gemini returned no text ({reason})", "empty")
    return text
