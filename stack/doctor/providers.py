"""Checks of AI providers and of the media bucket: harmless calls, which make nothing and cost nothing.

Google describes each model at a separate address. Perplexity does not; its list of asynchronous requests needs the key as
well, and is empty for an account that makes none (https://docs.perplexity.ai/api-reference/async-sonar-get, November 2026).
Both were tried with stand-ins only.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests

from sidecar.http import outside_session
from stack.doctor.check import Case, Check
from stack.doctor.outside import bucket

SECONDS = 10
GOOGLE, PERPLEXITY = "https://generativelanguage.googleapis.com", "https://api.perplexity.ai"


@dataclass(frozen=True)
class Call:
    """A request that is answered with 200 if the key is valid.

    Args:
        key: variable of the key.
        base: variable of the provider's address.
        path: what is read, after the address.
        subject: variable of what the path names.
        header: header of the key, and what precedes the key in it.
    """

    key: str
    base: str
    default: str
    path: str
    subject: str
    header: tuple[str, str]


def calls(case: Case) -> Iterator[Call]:
    google = ("GEMINI_API_URL", GOOGLE)
    models = (
        ("GEMINI_API_KEY", "GEMINI_MODEL", "gemini-flash-latest"),
        ("NANOBANA_API_KEY", "GEMINI_IMAGE_MODEL", "gemini-2.5-flash-image"),
        ("VEO_API_KEY", "GEMINI_VIDEO_MODEL", "veo-3.1-fast-generate-preview"),
    )
    for key, variable, default in models:
        model = case.settings.get(variable) or default
        yield Call(key, *google, f"/v1beta/models/{model}", variable, ("x-goog-api-key", ""))
    address, bearer = "PERPLEXITY_API_URL", ("Authorization", "Bearer ")
    yield Call("PERPLEXITY_API_KEY", address, PERPLEXITY, "/async/chat/completions", address, bearer)


def examine(case: Case) -> Iterator[Check]:
    for call in calls(case):
        if case.settings.get(call.key):
            yield _answered(case, call)
    if (url := case.settings.get("MEDIA_STORE_URL", "")).startswith("s3://"):
        yield bucket(case, "media bucket", "MEDIA", urlsplit(url).netloc)


def _answered(case: Case, call: Call) -> Check:
    base = (case.settings.get(call.base) or call.default).rstrip("/")
    name, prefix = call.header
    try:
        with outside_session() as client:
            answer = client.get(
                base + call.path,
                headers={name: prefix + case.settings[call.key]},
                timeout=SECONDS,
                allow_redirects=False,
            )
    except (requests.RequestException, ValueError) as error:
        # Neither the error's text nor the headers are shown: they may contain the key.
        return Check(
            call.key, False, f"no response: {type(error).__name__}", f"check {call.base} and the network"
        )
    host = urlsplit(base).hostname
    if answer.status_code == 200:
        return Check(call.key, True, f"accepted by {host}")
    if answer.status_code == 429:
        return Check(
            call.key, None, f"{host} limits the requests", "check the quota in the provider's console"
        )
    if answer.status_code == 404:
        return Check(call.key, False, f"{host} does not know {call.path}", f"correct {call.subject}")
    if answer.status_code in (400, 401, 403):
        detail = f"{host} does not accept the key ({answer.status_code})"
        return Check(call.key, False, detail, "make a new key, and allow it this API")
    return Check(call.key, False, f"{host} answers {answer.status_code}", "check the provider's status page")
