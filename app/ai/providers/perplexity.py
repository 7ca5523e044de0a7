"""Perplexity: text from chat completions (https://docs.perplexity.ai/api-reference, November 2026).

The path is that of Perplexity's own libraries; the reference also calls it /v1/sonar.
"""

from typing import Any

from ai.providers.base import RefusedError
from ai.providers.client import Client, dig


class Perplexity:
    name = "perplexity"

    def __init__(self, key: str, *, base_url: str, model: str, timeout: float) -> None:
        self._client = Client(self.name, base_url, {"Authorization": f"Bearer {key}"}, timeout)
        self._model = model

    def write(self, instruction: str, prompt: str) -> str:
        body = {
            "model": self._model,
            "messages": [{"role": "system", "content": instruction}, {"role": "user", "content": prompt}],
            "temperature": 0.8,
            "max_tokens": 1024,
        }
        return self._client.post("/chat/completions", body, _text)


def _text(answer: Any) -> str:
    text = str(dig(answer, "choices", 0, "message", "content") or "").strip()
    if not text:
        raise RefusedError("perplexity returned no text", "empty")
    return text
