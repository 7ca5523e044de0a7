"""Images: requested, drawn, checked, stored, linked, attached; and the quotas on them."""

import base64
import io
import json
import os
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone
from PIL import Image
from rest_framework.test import APIClient

from ai import runner, services
from ai.models import AIJob
from ai.providers import RefusedError, TryLaterError
from ai.providers.gemini import Gemini
from ai.providers.sandbox import Sandbox
from media import bucket, images, links, store
from media import services as media
from media.models import Asset

pytestmark = pytest.mark.django_db


def picture(kind: str = "PNG", size: tuple[int, int] = (60, 40), mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.new(mode, size).save(out, kind)
    return out.getvalue()


@pytest.fixture
def folder(tmp_path: Path, settings: Any) -> Path:
    """A media store in a folder."""
    settings.MEDIA_STORE_URL = f"file://{tmp_path}/media"
    return tmp_path / "media"


@pytest.fixture(params=["folder", "s3"])
def any_store(request: pytest.FixtureRequest, settings: Any, tmp_path: Path) -> Any:
    if request.param == "folder":
        settings.MEDIA_STORE_URL = f"file://{tmp_path}/media"
        return store.current()
    server = request.getfixturevalue("object_store")
    bucket = server.bucket(f"media-{uuid.uuid4().hex[:8]}")
    settings.MEDIA_STORE_URL = f"s3://{bucket}/some/prefix"
    settings.MEDIA_S3_ENDPOINT_URL, settings.MEDIA_S3_REGION = server.endpoint, "us-east-1"
    settings.MEDIA_S3_ACCESS_KEY_ID = server.access_key
    settings.MEDIA_S3_SECRET_ACCESS_KEY = server.secret_key
    return store.current()


class TestStore:
    def test_an_object_is_stored_replaced_read_and_deleted(self, any_store: Any) -> None:
        any_store.put("1/a/original", b"first", "image/png")
        any_store.put("1/a/original", b"second", "image/png")
        assert any_store.get("1/a/original") == b"second"
        any_store.delete("1/a/original")
        any_store.delete("1/a/original")
        with pytest.raises(store.MissingObjectError):
            any_store.get("1/a/original")

    def test_a_store_that_does_not_answer_is_a_separate_error(
        self, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bucket, "TIMEOUT", 0.2)
        settings.MEDIA_STORE_URL, settings.MEDIA_S3_ENDPOINT_URL = "s3://gone", "http://127.0.0.1:1"
        settings.MEDIA_S3_REGION = "us-east-1"
        settings.MEDIA_S3_ACCESS_KEY_ID = settings.MEDIA_S3_SECRET_ACCESS_KEY = "hunter-secret"
        for act in (lambda s: s.put("a", b"", ""), lambda s: s.get("a"), lambda s: s.delete("a")):
            with pytest.raises(store.StoreError) as caught:
                act(store.current())
            assert "hunter" not in str(caught.value)

    def test_a_folder_in_the_way_is_an_error(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "1").write_text("a file")
        with pytest.raises(store.StoreError):
            store.current().put("1/a/original", b"x", "")


class TestInspection:
    @pytest.mark.parametrize(
        ("kind", "content_type"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")]
    )
    def test_properties_and_thumbnail(self, kind: str, content_type: str) -> None:
        facts, thumbnail = images.inspect(picture(kind, (1000, 500)))
        assert facts == images.Facts(content_type, 1000, 500)
        with Image.open(io.BytesIO(thumbnail)) as small:
            assert (small.format, small.size) == ("JPEG", (480, 240))

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "not PNG"),
            (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not PNG"),
            (b"GIF89a" + b"0" * 100, "not PNG"),
            (picture()[:-30], "damaged"),
            (picture("JPEG", (400, 400))[:300], "damaged"),
            (b"\x89PNG\r\n\x1a\n" + b"x" * 100, "damaged"),
            (b"x" * (50 * 1024 * 1024), "52428800 bytes"),
            (picture("PNG", (9000, 9000), mode="1"), "9000 × 9000 pixels"),
        ],
        ids=["empty", "svg", "gif", "cut", "cut jpeg", "noise", "50 MB", "pixels"],
    )
    def test_what_is_not_accepted(self, content: Any, words: str) -> None:
        with pytest.raises(images.InvalidImageError, match=words):
            images.inspect(content)


class TestGemini:
    """The wire format of generateContent with image parts, as public clients use it (November 2026)."""

    @pytest.fixture
    def gemini(self, outside: Any) -> Gemini:
        return Gemini(
            "AIza-secret",
            base_url=outside.url,
            model="m",
            embedding_model="e",
            image_model="nano-banana",
            video_model="veo",
            dimensions=3,
            timeout=2,
        )

    @staticmethod
    def answer(*parts: Any, **more: Any) -> Any:
        return {"candidates": [{"content": {"parts": list(parts)}, "finishReason": "STOP"}], **more}

    def test_the_image_is_the_first_part_with_data(self, gemini: Gemini, outside: Any) -> None:
        data = base64.b64encode(b"bytes of an image").decode()
        outside.will_answer(
            200, self.answer({"text": "Here it is"}, {"inlineData": {"mimeType": "image/png", "data": data}})
        )
        assert gemini.draw("A rusty watering can") == b"bytes of an image"
        (request,) = outside.requests
        assert request.path == "/v1beta/models/nano-banana:generateContent"
        assert request.headers["x-goog-api-key"] == "AIza-secret"
        assert request.json["contents"][0]["parts"] == [{"text": "A rusty watering can"}]
        assert "IMAGE" in request.json["generationConfig"]["responseModalities"]

    @pytest.mark.parametrize(
        ("content", "outcome"),
        [
            ({"promptFeedback": {"blockReason": "SAFETY"}}, "blocked"),
            (
                {"candidates": [{"content": {"parts": [{"text": "no"}]}, "finishReason": "IMAGE_SAFETY"}]},
                "empty",
            ),
            ({"candidates": [{"content": {"parts": [{"inlineData": {"data": "%%%"}}]}}]}, "invalid_response"),
            ({"candidates": [{"content": {"parts": [{"inlineData": {}}]}}]}, "invalid_response"),
            ({"candidates": []}, "invalid_response"),
            ([], "invalid_response"),
        ],
    )
    def test_answers_without_an_image(
        self, gemini: Gemini, outside: Any, content: dict[str, Any] | list[Any], outcome: str
    ) -> None:
        outside.will_answer(200, content)
        with pytest.raises(RefusedError) as caught:
            gemini.draw("x")
        assert caught.value.outcome == outcome

    def test_an_answer_that_is_too_large_is_refused(
        self, gemini: Gemini, outside: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("ai.providers.client.MAX_BYTES", 1000)
        outside.will_answer(200, b"x" * 5000)
        with pytest.raises(RefusedError, match="too large"):
            gemini.draw("x")

    def test_a_limit_of_the_provider_is_temporary(self, gemini: Gemini, outside: Any) -> None:
        outside.will_answer(429, {}, Retry_After="30")
        with pytest.raises(TryLaterError) as caught:
            gemini.draw("x")
        assert (caught.value.outcome, caught.value.after) == ("rate_limited", 30)


@pytest.fixture
def drawings(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The prompts that the provider was paid for."""
    seen = []
    original = Sandbox.draw

    def draw(self: Any, prompt: Any) -> Any:
        seen.append(prompt)
        return original(self, prompt)

    monkeypatch.setattr(Sandbox, "draw", draw)
    return seen


@pytest.fixture
def make_job(user: Any) -> Callable[..., Any]:
    def make(**values: Any) -> Any:
        defaults = {
            "kind": "image",
            "provider": "sandbox",
            "prompt": "A greenhouse",
            "sent_at": timezone.now(),
        }
        return AIJob.objects.create(owner=user, **defaults | values)

    return make


def draw(job: Any, **options: Any) -> Any:
    outcome = runner.run(str(job.pk), **options)
    job.refresh_from_db()
    return outcome


class TestJob:
    def test_an_image_goes_to_the_store_and_its_properties_to_the_database(
        self, make_job: Callable[..., Any], any_store: Any, counter: Callable[..., Any]
    ) -> None:
        counted = counter("posthub_media_stored_bytes_total", kind="image")
        job = make_job()
        assert draw(job) == "succeeded"
        asset = job.asset
        assert (asset.kind, asset.content_type, asset.width, asset.height) == ("image", "image/png", 640, 400)
        assert len(media.read(asset, "original")) == asset.size
        assert media.read(asset, "thumbnail").startswith(b"\xff\xd8")
        assert counter("posthub_media_stored_bytes_total", kind="image") > counted + asset.size

    def test_an_attempt_after_a_crash_uses_the_stored_image(
        self, make_job: Callable[..., Any], folder: Path, drawings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = make_job()
        with monkeypatch.context() as crash:
            crash.setattr(runner, "_succeed", lambda *args: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                runner.run(str(job.pk))
        AIJob.objects.filter(pk=job.pk).update(status="running")
        assert draw(job, again=True) == "succeeded"
        assert drawings == ["A greenhouse"]
        assert Asset.objects.count() == 1

    def test_an_image_that_comes_after_the_cancellation_is_deleted(
        self, make_job: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = make_job()
        original = Sandbox.draw

        def meanwhile(self: Any, prompt: Any) -> Any:
            services.cancel(job)
            return original(self, prompt)

        monkeypatch.setattr(Sandbox, "draw", meanwhile)
        assert draw(job) == "cancelled in the meantime"
        assert (job.status, job.asset, Asset.objects.count()) == ("cancelled", None, 0)
        assert [path for path in folder.rglob("*") if path.is_file()] == []

    @pytest.mark.parametrize(
        "content", [b"<html>", picture()[:-30], b"x" * (21 * 1024 * 1024)], ids=["html", "cut", "21 MB"]
    )
    def test_what_is_not_an_image_fails_the_job_and_stores_nothing(
        self, make_job: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch, content: Any
    ) -> None:
        monkeypatch.setattr(Sandbox, "draw", lambda self, prompt: content)
        job = make_job()
        assert draw(job) == "failed"
        assert "image" in job.error
        assert Asset.objects.count() == 0
        assert not folder.exists()

    def test_a_store_that_fails_is_tried_again(
        self, make_job: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = make_job()
        with monkeypatch.context() as broken:
            broken.setattr(
                store.FolderStore, "put", lambda *_: (_ for _ in ()).throw(store.StoreError("full"))
            )
            with pytest.raises(TryLaterError, match="full"):
                runner.run(str(job.pk))
        job.refresh_from_db()
        assert (job.status, job.error) == ("queued", "full")
        assert draw(job) == "succeeded"

    def test_without_a_store_the_job_fails(self, make_job: Callable[..., Any], settings: Any) -> None:
        settings.MEDIA_STORE_URL = ""
        job = make_job()
        assert draw(job) == "failed"
        assert job.error == "no media store is configured"


@pytest.fixture
def asset(make_job: Callable[..., Any], folder: Path) -> Any:
    job = make_job()
    assert draw(job) == "succeeded"
    return job.asset


class TestLinks:
    def test_a_link_is_enough_to_read_the_file(self, asset: Any) -> None:
        for variant, content_type in (("original", "image/png"), ("thumbnail", "image/jpeg")):
            answer = APIClient().get(links.path(asset, variant))
            assert (answer.status_code, answer.headers["Content-Type"]) == (200, content_type)
            content = answer.getvalue()
            assert content == media.read(asset, variant)
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "sandbox" in answer.headers["Content-Security-Policy"]
            assert "immutable" in answer.headers["Cache-Control"]

    def test_a_link_stays_the_same_for_an_hour_and_works_for_a_day(
        self, asset: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        start = 1_800_000_000 // 3600 * 3600
        monkeypatch.setattr(links.time, "time", lambda: start)
        path = links.path(asset, "original")
        monkeypatch.setattr(links.time, "time", lambda: start + 3599)
        assert links.path(asset, "original") == path
        monkeypatch.setattr(links.time, "time", lambda: start + 24 * 3600)
        assert APIClient().get(path).status_code == 200
        monkeypatch.setattr(links.time, "time", lambda: start + 25 * 3600)
        answer = APIClient().get(path)
        assert (answer.status_code, answer.json()["code"]) == (403, "link_expired")

    @pytest.mark.parametrize(
        "change",
        [
            lambda path: path.split("?")[0],
            lambda path: path.replace("signature=", "signature=x"),
            lambda path: path[:-1] + ("A" if path[-1] != "A" else "B"),
            lambda path: path.replace("original", "thumbnail"),
            lambda path: path.replace("expires=", "expires=9"),
            lambda path: path.replace("expires=", "expires=x"),
        ],
        ids=["none", "longer", "other", "variant", "later", "nonsense"],
    )
    def test_a_changed_link_does_not_work(self, asset: Any, change: Any) -> None:
        answer = APIClient().get(change(links.path(asset, "original")))
        assert (answer.status_code, answer.json()["code"]) == (403, "link_invalid")

    def test_a_file_of_another_asset_cannot_be_read(self, asset: Any, make_job: Callable[..., Any]) -> None:
        other = make_job()
        assert draw(other) == "succeeded"
        path = links.path(asset, "original").replace(str(asset.pk), str(other.asset.pk))
        assert APIClient().get(path).status_code == 403

    def test_a_missing_file_and_a_broken_store_are_distinguished(
        self, asset: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = links.path(asset, "original")
        with monkeypatch.context() as broken:
            broken.setattr(
                store.FolderStore, "stream", lambda *_: (_ for _ in ()).throw(store.StoreError("x"))
            )
            answer = APIClient().get(path)
        assert (answer.status_code, answer.json()["code"]) == (503, "media_store_unavailable")
        media.discard(asset.owner_id, asset.pk)
        answer = APIClient().get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "media_missing")
        asset.delete()
        assert APIClient().get(path).status_code == 404


class TestMissing:
    """`missing_media` after a restore: the rows are back, and some of their files are not."""

    def test_files_that_a_restored_row_lacks_are_named(
        self, make_job: Callable[..., Any], any_store: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        kept, lost, cut = (make_job() for _ in range(3))
        for job in (kept, lost, cut):
            draw(job)
        call_command("missing_media")
        assert capsys.readouterr().err == "0 of 6 files are missing\n"
        keys = [f"{lost.owner_id}/{lost.asset.pk}/{name}" for name in ("original", "thumbnail")]
        for key in keys:
            any_store.delete(key)
        damaged = f"{cut.owner_id}/{cut.asset.pk}/original"
        any_store.put(damaged, b"half", "image/png")
        with pytest.raises(SystemExit) as ended:
            call_command("missing_media")
        out, err = capsys.readouterr()
        assert (ended.value.code, out.split(), err) == (1, [*keys, damaged], "3 of 6 files are missing\n")

    def test_without_a_store_it_is_a_usage_error(
        self, settings: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        settings.MEDIA_STORE_URL = ""
        with pytest.raises(SystemExit) as ended:
            call_command("missing_media")
        assert ended.value.code == 2
        assert "MEDIA_STORE_URL" in capsys.readouterr().err

    def test_a_store_that_does_not_answer_says_nothing_about_files(
        self,
        make_job: Callable[..., Any],
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        draw(make_job())
        error = store.StoreError("media store: ConnectionError")
        monkeypatch.setattr(store.FolderStore, "size", lambda *_: (_ for _ in ()).throw(error))
        with pytest.raises(SystemExit) as ended:
            call_command("missing_media")
        out, err = capsys.readouterr()
        assert (ended.value.code, out) == (1, "")
        assert err.startswith("Error: media store: ConnectionError\nTry: ")


class TestApi:
    def test_an_image_is_requested_watched_and_attached(
        self,
        api: APIClient,
        make_post: Callable[..., Any],
        folder: Path,
        messages: Callable[[str], list[Any]],
        run_on_commit: Callable[[], Any],
    ) -> None:
        with run_on_commit():
            answer = api.post("/api/v1/ai/images/", {"prompt": "A greenhouse"}, format="json")
        assert (answer.status_code, answer.json()["asset"]) == (202, None)
        (message,) = messages("ai_jobs")
        runner.run(message.args[0])
        job = api.get(f"/api/v1/ai/jobs/{message.args[0]}/").json()
        assert (job["status"], job["asset"]["width"]) == ("succeeded", 640)
        assert APIClient().get(job["asset"]["thumbnail_url"]).status_code == 200
        post = make_post()
        body = {"media": job["asset"]["id"]}
        shown = api.patch(f"/api/v1/posts/{post.pk}/", body, format="json").json()
        assert shown["file"]["id"] == job["asset"]["id"]
        assert [one["id"] for one in api.get("/api/v1/media/").json()["results"]] == [job["asset"]["id"]]
        assert api.patch(f"/api/v1/posts/{post.pk}/", {"media": None}, format="json").json()["file"] is None

    def test_a_strangers_file_does_not_exist(
        self,
        asset: Any,
        make_user: Callable[..., Any],
        client_of: Callable[[Any], APIClient],
        messages: Callable[[str], list[Any]],
    ) -> None:
        stranger = client_of(make_user("mallory"))
        channel = stranger.post(
            "/api/v1/channels/", {"name": "M", "publisher": "sandbox"}, format="json"
        ).json()
        body = {"channel": channel["id"], "text": "x", "media": str(asset.pk)}
        answer = stranger.post("/api/v1/posts/", body, format="json")
        assert (answer.status_code, list(answer.json())) == (400, ["media"])
        assert stranger.get("/api/v1/media/").json()["count"] == 0
        for verb in (stranger.get, stranger.delete):
            assert verb(f"/api/v1/media/{asset.pk}/").status_code == 404

    def test_a_file_in_use_is_not_deleted_and_another_one_is(
        self,
        api: APIClient,
        asset: Any,
        make_post: Callable[..., Any],
        folder: Path,
        run_on_commit: Callable[[], Any],
    ) -> None:
        post = make_post(media=asset)
        answer = api.delete(f"/api/v1/media/{asset.pk}/")
        assert (answer.status_code, answer.json()["code"]) == (409, "media_in_use")
        post.delete()
        with run_on_commit():
            assert api.delete(f"/api/v1/media/{asset.pk}/").status_code == 204
        assert [path for path in folder.rglob("*") if path.is_file()] == []

    def test_files_go_with_their_owner(
        self,
        user: Any,
        asset: Any,
        make_post: Callable[..., Any],
        folder: Path,
        run_on_commit: Callable[[], Any],
    ) -> None:
        make_post(media=asset)
        with run_on_commit():
            user.delete()
        assert [path for path in folder.rglob("*") if path.is_file()] == []

    def test_what_is_missing_is_reported(self, api: APIClient, settings: Any) -> None:
        settings.MEDIA_STORE_URL = ""
        answer = api.post("/api/v1/ai/images/", {"prompt": "x"}, format="json")
        assert (answer.status_code, answer.json()["code"]) == (503, "no_media_store")
        assert api.get("/api/v1/me/").json()["ai_images"] is False
        settings.SANDBOX_ALLOWED = False
        answer = api.post("/api/v1/ai/images/", {"prompt": "x"}, format="json")
        assert (answer.status_code, answer.json()["code"]) == (503, "no_image_provider")

    def test_a_webhook_gets_a_link_that_works(
        self,
        asset: Any,
        make_post: Callable[..., Any],
        outside: Any,
        user: Any,
        settings: Any,
        messages: Callable[[str], list[Any]],
    ) -> None:
        settings.API_URL = "https://api.example.com"
        outside.will_answer(200)
        channel = user.channels.create(name="Hook", webhook_url=outside.url)
        from posts import publication

        post = make_post(channel=channel, status="scheduled", media=asset)
        assert publication.publish(str(post.pk), "task-1") == "published"
        sent = json.loads(outside.requests[0].body)["media"]
        assert (sent["content_type"], sent["sha256"]) == ("image/png", asset.digest)
        assert sent["url"].startswith("https://api.example.com/api/v1/media/")
        assert APIClient().get(sent["url"].removeprefix("https://api.example.com")).status_code == 200
        assert int(sent["url"].split("expires=")[1].split("&")[0]) > time.time() + 6 * 86400


class TestQuotas:
    @pytest.fixture(autouse=True)
    def _small(self, settings: Any, folder: Path) -> None:
        settings.AI_DAILY_QUOTAS = {
            "free": {"caption": 2, "image": 1, "video": 4},
            "paid": {"caption": 3, "image": 2, "video": 8},
        }

    @pytest.mark.parametrize(("path", "kind", "limit"), [("captions", "caption", 2), ("images", "image", 1)])
    def test_the_plan_limits_the_jobs_of_a_day(
        self,
        api: APIClient,
        user: Any,
        path: str,
        kind: str,
        limit: int,
        counter: Callable[..., Any],
    ) -> None:
        counted = counter("posthub_ai_quota_refusals_total", kind=kind)
        answers = [api.post(f"/api/v1/ai/{path}/", {"prompt": "x"}, format="json") for _ in range(limit + 1)]
        assert [answer.status_code for answer in answers] == [202] * limit + [429]
        assert answers[-1].json()["code"] == "quota_exceeded"
        assert 0 < int(answers[-1].headers["Retry-After"]) <= 86400
        assert counter("posthub_ai_quota_refusals_total", kind=kind) == counted + 1
        shown = {quota["kind"]: quota for quota in api.get("/api/v1/me/").json()["quotas"]}
        assert shown[kind] == {"kind": kind, "unit": "jobs", "limit": limit, "used": limit}
        user.plan = "paid"
        user.save()
        assert api.post(f"/api/v1/ai/{path}/", {"prompt": "x"}, format="json").status_code == 202

    def test_yesterday_failures_and_embeddings_do_not_count(
        self, api: APIClient, make_job: Callable[..., Any]
    ) -> None:
        make_job(status="failed")
        make_job(status="cancelled")
        make_job(kind="embedding")
        old = make_job(status="succeeded")
        AIJob.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=1))
        assert api.post("/api/v1/ai/images/", {"prompt": "x"}, format="json").status_code == 202

    def test_a_job_cancelled_while_it_ran_counts_toward_the_quota(
        self, api: APIClient, make_job: Callable[..., Any]
    ) -> None:
        make_job(status="cancelled", started_at=timezone.now())
        assert api.post("/api/v1/ai/images/", {"prompt": "x"}, format="json").status_code == 429

    @pytest.mark.django_db(transaction=True)
    def test_requests_at_the_same_moment_share_the_quota(
        self, user: Any, messages: Callable[[str], list[Any]]
    ) -> None:
        import threading

        from django.db import connection

        outcomes, start = [], threading.Barrier(5)

        def ask() -> None:
            start.wait()
            try:
                services.request_image(user, "x")
                outcomes.append("job")
            except Exception as error:
                outcomes.append(type(error).__name__)
            finally:
                connection.close()

        threads = [threading.Thread(target=ask) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == ["QuotaExceeded"] * 4 + ["job"]


@pytest.mark.parametrize("value", ["media", "s3://", "file://", "file://host/x", "http://x/y", "s3://a:b@c/"])
def test_an_invalid_address_of_the_store_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    from config import env
    from config.env import ConfigError

    monkeypatch.setenv("MY_STORE", value)
    with pytest.raises(ConfigError, match="MY_STORE is not the address of a bucket or folder"):
        env.media_store("MY_STORE")


def test_a_file_has_its_name_once_it_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync, rename = os.fsync, Path.replace

    def synced(handle: int) -> None:
        done.append(f"sync {Path(f'/proc/self/fd/{handle}').read_text()}")
        sync(handle)

    def replaced(path: Path, target: Path) -> Path:
        done.append(f"replace {target.name}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    store.FolderStore(tmp_path).put_stream("a/b", (b"1", b"2"), "text/plain")
    assert done == ["sync 12", "replace b"]
