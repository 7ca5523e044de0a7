"""A provider without a network that returns the same text for the same prompt. For development and the demo."""

import hashlib
import io
import math
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, ImageOps

from ai.providers import sample_video
from ai.providers.base import RefusedError, TryLaterError
from monitoring.metrics import AI_REQUESTS, AI_SECONDS

OPENINGS = ("Fresh today:", "Have you seen this?", "Made for you:", "Good news:", "Worth a look:")
PICTURE = (640, 400)
# How long a video takes at least: long enough for a person to see that it is being made.
VIDEO_SECONDS = 3.0
TAGS = ("#posthub", "#daily", "#new", "#team", "#behindthescenes", "#launch")


class Sandbox:
    name = "sandbox"

    def __init__(self, *, dimensions: int, latency: float = 0) -> None:
        self._dimensions, self._latency = dimensions, latency

    def write(self, instruction: str, prompt: str) -> str:
        dice = self._answer(prompt)
        return f"{dice.choice(OPENINGS)} {prompt.strip()[:200]} {' '.join(dice.sample(TAGS, 2))}"

    def draw(self, prompt: str) -> bytes:
        """A small picture whose colours depend on the prompt."""
        dice = self._answer(prompt)
        first, second = ([dice.randrange(256) for _ in range(3)] for _ in range(2))
        gradient = Image.linear_gradient("L").resize(PICTURE)
        picture = ImageOps.colorize(gradient, tuple(first), tuple(second))
        out = io.BytesIO()
        picture.save(out, "PNG")
        return out.getvalue()

    def start(self, prompt: str, seconds: int) -> str:
        """The operation's name has all that there is to know about it: its end, and the length of the video."""
        self._answer(prompt)
        return f"operations/{int((time.time() + max(VIDEO_SECONDS, self._latency)) * 1000)}-{seconds}"

    def operations(self) -> None:
        """The sandbox remembers nothing."""

    def poll(self, operation: str) -> str | None:
        self._answer("")
        end = int(operation.removeprefix("operations/").partition("-")[0]) / 1000
        return f"sandbox:{operation}" if time.time() >= end else None

    @contextmanager
    def download(self, address: str) -> Iterator[Iterator[bytes]]:
        self._answer("")
        yield iter((sample_video.mp4(seconds=int(address.rpartition("-")[2]), width=640, height=360),))

    def embed(self, text: str) -> list[float]:
        """A vector close to those of other texts with the same words."""
        self._answer(text)
        total = [0.0] * self._dimensions
        for word in text.lower().split() or [""]:
            dice = _dice(word)
            for index in range(self._dimensions):
                total[index] += dice.gauss(0, 1)
        length = math.hypot(*total)
        return [value / length for value in total]

    def _answer(self, text: str) -> random.Random:
        with AI_SECONDS.labels(self.name).time():
            time.sleep(self._latency)
        if "[sandbox:reject]" in text:
            AI_REQUESTS.labels(self.name, "rejected").inc()
            raise RefusedError("the prompt asked the sandbox to refuse it", "rejected")
        if "[sandbox:unreachable]" in text:
            AI_REQUESTS.labels(self.name, "timeout").inc()
            raise TryLaterError("the prompt asked the sandbox not to answer", "timeout")
        AI_REQUESTS.labels(self.name, "success").inc()
        return _dice(text)


def _dice(text: str) -> random.Random:
    return random.Random(hashlib.sha256(text.encode()).digest())
