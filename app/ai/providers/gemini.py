"""Google Gemini: text and images from generateContent, embeddings from embedContent."""

import base64
import math
from typing import Any

from ai.providers.base import RefusedError
from ai.providers.client import Client, dig

VERSION = "/v1beta/models"


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
        dimensions: int,
        timeout: float,
    ) -> None:
        self._client = Client(self.name, base_url, {"x-goog-api-key": key}, timeout)
        self._model, self._embedding_model, self._dimensions = model, embedding_model, dimensions
        self._image_model = image_model

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
    for part in _parts(answer):
        if isinstance(part, dict) and "inlineData" in part and not part.get("thought"):
            try:
                return base64.b64decode(dig(part, "inlineData", "data"), validate=True)
            except (ValueError, TypeError):
                raise RefusedError(
                    "gemini sent an image that is not valid base64", "invalid_response"
                ) from None
    reason = answer["candidates"][0].get("finishReason", "no reason given")
    raise RefusedError(f"gemini returned no image ({reason})", "empty")


def _parts(answer: Any) -> Any:
    blocked = answer.get("promptFeedback", {}).get("blockReason") if isinstance(answer, dict) else None
    if blocked:
        raise RefusedError(f"gemini refuses the prompt ({blocked})", "blocked")
    return dig(answer, "candidates", 0, "content", "parts")


def _text(answer: Any) -> str:
    parts = _parts(answer)
    text = "".join(part.get("text", "") for part in parts if not part.get("thought")).strip()
    if not text:
        reason = answer["candidates"][0].get("finishReason", "no reason given")
        raise RefusedError(f"gemini returned no text ({reason})", "empty")
    return text
