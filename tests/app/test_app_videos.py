"""Videos: started once, polled, streamed into the store, served in ranges; and the quota on their seconds."""

import io
import struct
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError
from django.utils import timezone
from rest_framework.test import APIClient

from ai import quotas, runner, services
from ai import videos as steps
from ai.models import AIJob, Operation
from ai.providers import RefusedError, TryLaterError, UncertainError
from ai.providers.gemini import Gemini
from ai.providers.sample_video import box, mp4
from media import links, ranges, store, videos
from media import services as media
from media.models import Asset
from stack.standins import GeminiStandIn
from stack.standins.gemini import KEY

pytestmark = pytest.mark.django_db
VIDEO = mp4(seconds=4, width=1280, height=720, payload=300_000)


def inspected(content: bytes, chunk: int = 1000) -> videos.Facts:
    inspector = videos.Inspector()
    chunks = (content[at : at + chunk] for at in range(0, len(content), chunk))
    assert b"".join(inspector.passing(chunks)) == content
    return inspector.facts


class TestInspector:
    @pytest.mark.parametrize("chunk", [1, 7, 4096, 10**7])
    def test_properties_do_not_depend_on_the_pieces(self, chunk: int) -> None:
        content = mp4(seconds=6, width=1280, height=720, payload=500)
        facts = inspected(content, chunk)
        assert (facts.width, facts.height, facts.seconds, facts.size) == (1280, 720, 6, len(content))

    def test_a_size_of_64_bits_and_a_description_at_the_end(self) -> None:
        parts = mp4(seconds=6, width=640, height=360, payload=0)
        ftyp, moov = parts[:24], parts[24:-8]
        long = struct.pack(">I4sQ", 1, b"mdat", 16 + 50) + bytes(50)
        assert inspected(ftyp + long + moov, 5).seconds == 6

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "empty"),
            (b"<html>not a video</html>", "not an MP4"),
            (b"\x89PNG\r\n\x1a\n" + bytes(100), "not an MP4"),
            (box(b"ftyp", b"heic\0\0\0\0mif1heic") + VIDEO[24:], "not an MP4"),
            (VIDEO[:-1], "incomplete"),
            (VIDEO[:30], "incomplete"),
            (VIDEO[:20], "incomplete"),
            (VIDEO[:24] + box(b"mdat", bytes(100)), "no video track"),
            (mp4(seconds=0, width=640, height=360), "no video track"),
            (mp4(seconds=4, width=0, height=0), "no video track"),
            (VIDEO + b"\0\0\0\3xxxx", "damaged"),
            (VIDEO[:24] + struct.pack(">I4s", 2**31, b"moov"), "a description in the video has"),
        ],
    )
    def test_what_is_not_accepted(self, content: bytes, words: str) -> None:
        with pytest.raises(videos.InvalidVideoError, match=words):
            inspected(content)

    def test_a_video_that_is_too_large_is_refused_while_it_comes(self) -> None:
        def endless() -> Iterator[bytes]:
            yield VIDEO[:24] + struct.pack(">I4sQ", 1, b"mdat", 2**40)
            while True:
                yield bytes(1024 * 1024)

        with pytest.raises(videos.InvalidVideoError, match=f"more than {videos.MAX_BYTES} bytes"):
            for _ in videos.Inspector().passing(endless()):
                pass

    def test_the_last_piece_of_an_incomplete_video_is_not_passed_on(self) -> None:
        pieces = videos.Inspector().passing([VIDEO[:100_000], VIDEO[100_000:-1]])
        assert next(pieces) == VIDEO[:100_000]
        with pytest.raises(videos.InvalidVideoError):
            next(pieces)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", (0, 99, False)),
        ("bytes=0-", (0, 99, True)),
        ("bytes=10-19", (10, 19, True)),
        ("bytes=90-200", (90, 99, True)),
        ("bytes=-10", (90, 99, True)),
        ("bytes=-1000", (0, 99, True)),
        ("bytes=20-10", (0, 99, False)),
        ("bytes=0-1,5-6", (0, 99, False)),
        ("bytes=x-", (0, 99, False)),
        ("bytes=-", (0, 99, False)),
        ("bytes=100-", None),
        ("bytes=-0", None),
    ],
)
def test_ranges(header: str, expected: Any) -> None:
    found = ranges.parse(header, 100)
    assert (found and (found.first, found.last, found.is_part)) == expected


def test_a_part_is_never_longer_than_the_limit() -> None:
    found = ranges.parse("bytes=5-", 10**9)
    assert found is not None
    assert found.last - found.first + 1 == ranges.LONGEST


@pytest.fixture(params=["folder", "s3"])
def any_store(request: pytest.FixtureRequest, settings: Any, tmp_path: Path) -> Any:
    if request.param == "folder":
        settings.MEDIA_STORE_URL = f"file://{tmp_path}/media"
        return store.current()
    server = request.getfixturevalue("object_store")
    settings.MEDIA_STORE_URL = f"s3://{server.bucket(f'video-{uuid.uuid4().hex[:8]}')}/some/prefix"
    settings.MEDIA_S3_ENDPOINT_URL, settings.MEDIA_S3_REGION = server.endpoint, "us-east-1"
    settings.MEDIA_S3_ACCESS_KEY_ID = server.access_key
    settings.MEDIA_S3_SECRET_ACCESS_KEY = server.secret_key
    return store.current()


class TestStore:
    @pytest.mark.parametrize("size", [0, 100, 17 * 1024 * 1024], ids=["empty", "small", "parts"])
    def test_a_stream_is_stored_and_read_in_ranges(self, any_store: Any, size: int) -> None:
        content = bytes(range(256)) * (size // 256) + bytes(size % 256)
        any_store.put_stream(
            "1/a/original", (content[at : at + 70_000] for at in range(0, size, 70_000)), "x/y"
        )
        assert any_store.get("1/a/original") == content
        if size:
            assert b"".join(any_store.stream("1/a/original", 10, 89)) == content[10:90]
            assert b"".join(any_store.stream("1/a/original", 0, size - 1)) == content

    def test_a_stream_that_breaks_stores_nothing(self, any_store: Any, tmp_path: Path) -> None:
        def broken() -> Iterator[bytes]:
            yield bytes(9 * 1024 * 1024)
            raise ValueError("cut")

        with pytest.raises(ValueError, match="cut"):
            any_store.put_stream("1/a/original", broken(), "x/y")
        with pytest.raises(store.MissingObjectError):
            any_store.get("1/a/original")
        with pytest.raises(store.MissingObjectError):
            any_store.stream("1/a/original", 0, 1)
        assert [path for path in (tmp_path / "media").rglob("*") if path.is_file()] == []


@pytest.fixture
def google() -> Iterator[GeminiStandIn]:
    with GeminiStandIn(video=VIDEO, operation_seconds=0).running() as standin:
        yield standin


def gemini_at(url: str, key: str = KEY, timeout: float = 3, video_model: str = "veo") -> Gemini:
    return Gemini(
        key,
        base_url=url,
        model="flash",
        embedding_model="e",
        image_model="banana",
        video_model=video_model,
        dimensions=3,
        timeout=timeout,
    )


class TestGemini:
    """Against the stand-in, whose docstring names the contract that it follows."""

    @pytest.fixture
    def gemini(self, google: GeminiStandIn) -> Gemini:
        return gemini_at(google.url)

    def test_a_video_is_started_looked_at_and_fetched(self, gemini: Gemini, google: GeminiStandIn) -> None:
        google.operation_seconds = 1000
        name = gemini.start("A greenhouse", 6)
        assert name == "models/veo/operations/op1"
        assert (google.operations[0].prompt, google.operations[0].seconds) == ("A greenhouse", 6)
        assert gemini.poll(name) is None
        google.operations[0].end = 0
        address = gemini.poll(name)
        assert address is not None
        with gemini.download(address) as pieces:
            assert b"".join(pieces) == VIDEO

    @pytest.mark.parametrize(
        ("prompt", "outcome", "words"),
        [("[blocked]", "blocked", "a reason"), ("[error]", "rejected", "not valid")],
    )
    def test_operations_without_a_video(self, gemini: Gemini, prompt: str, outcome: str, words: str) -> None:
        with pytest.raises(RefusedError, match=words) as caught:
            gemini.poll(gemini.start(prompt, 4))
        assert caught.value.outcome == outcome

    @pytest.mark.parametrize(
        ("code", "error"),
        [
            (400, RefusedError),
            (403, RefusedError),
            (429, TryLaterError),
            (500, UncertainError),
            (503, UncertainError),
        ],
    )
    def test_a_start_is_sent_once_and_an_answer_that_proves_nothing_is_uncertain(
        self, gemini: Gemini, google: GeminiStandIn, code: int, error: Any, counter: Callable[..., Any]
    ) -> None:
        google.failures["predictLongRunning"] = (code, "STATUS")
        requests = sum(counter("posthub_ai_requests_total", provider="gemini", outcome=o) for o in OUTCOMES)
        with pytest.raises(error):
            gemini.start("x", 4)
        now = sum(counter("posthub_ai_requests_total", provider="gemini", outcome=o) for o in OUTCOMES)
        assert now == requests + 1

    def test_a_start_without_an_answer_is_uncertain(self, google: GeminiStandIn) -> None:
        google.answering.clear()
        with pytest.raises(UncertainError):
            gemini_at(google.url, timeout=0.3).start("x", 4)
        assert len(google.operations) == 1

    def test_a_start_without_a_connection_may_be_repeated(self) -> None:
        with pytest.raises(TryLaterError) as caught:
            gemini_at("http://127.0.0.1:1").start("x", 4)
        assert caught.value.ignored

    @pytest.mark.parametrize(
        "answer", [{}, [], {"name": 5}, {"name": "../../v1/x"}, {"name": "operations/a b"}]
    )
    def test_a_name_that_is_not_valid_is_uncertain(self, outside: Any, answer: Any) -> None:
        outside.will_answer(200, answer)
        with pytest.raises(UncertainError):
            gemini_at(outside.url).start("x", 4)

    @pytest.mark.parametrize("name", ["../files/x", "operations/x?y", "models/../operations/x", ""])
    def test_a_stored_name_cannot_lead_elsewhere(
        self, gemini: Gemini, google: GeminiStandIn, name: str
    ) -> None:
        with pytest.raises(RefusedError):
            gemini.poll(name)
        assert google.polls == 0

    @pytest.mark.parametrize(
        "address",
        [
            "http://127.0.0.1:1/x",
            "file:///etc/passwd",
            "https://evil.example/x",
            "https://a@x.googleapis.com/",
            "",
        ],
    )
    def test_a_file_elsewhere_is_not_fetched_and_gets_no_key(self, gemini: Gemini, address: str) -> None:
        with pytest.raises(RefusedError, match="unexpected address"), gemini.download(address):
            pass

    def test_files_at_google_are_fetched_without_the_key(self) -> None:
        client = gemini_at("https://generativelanguage.googleapis.com")._client
        own, other = "https://generativelanguage.googleapis.com/x", "https://storage.googleapis.com/x"
        assert client._headers_for(own) == {"x-goog-api-key": KEY}
        assert client._headers_for(other) == {}

    def test_a_file_that_is_redirected_elsewhere_is_not_fetched(self, outside: Any) -> None:
        outside.will_answer(302, b"", Location="http://169.254.169.254/latest/meta-data/")
        with (
            pytest.raises(RefusedError, match="unexpected address"),
            gemini_at(outside.url).download(f"{outside.url}/file"),
        ):
            pass

    @pytest.mark.parametrize(("count", "page"), [(0, 100), (3, 100), (3, 1), (4, 2)])
    def test_operations_are_listed_page_by_page(
        self, gemini: Gemini, google: GeminiStandIn, count: int, page: int
    ) -> None:
        google.page = page
        names = {gemini.start("A greenhouse", 4) for _ in range(count)}
        assert gemini.operations() == names

    def test_an_endless_list_is_ignored(self, gemini: Gemini, google: GeminiStandIn) -> None:
        google.page = 1
        for _ in range(11):
            gemini.start("A greenhouse", 4)
        assert gemini.operations() is None

    def test_a_server_that_lists_no_operations_refuses(self, gemini: Gemini, google: GeminiStandIn) -> None:
        google.lists = False
        with pytest.raises(RefusedError, match="501"):
            gemini.operations()

    @pytest.mark.parametrize("answer", [[], "x", {"operations": 5}, {"operations": [{"name": "../x"}]}])
    def test_a_list_that_cannot_be_read_is_refused(self, outside: Any, answer: Any) -> None:
        outside.will_answer(200, answer)
        with pytest.raises(RefusedError):
            gemini_at(outside.url).operations()

    @pytest.mark.parametrize("answer", [{}, [], None, {"error": {"code": 13}}])
    def test_an_answer_that_is_not_an_operation_ends_nothing(self, outside: Any, answer: Any) -> None:
        outside.will_answer(200, answer)
        with pytest.raises(TryLaterError, match="not an operation"):
            gemini_at(outside.url).poll("models/veo/operations/op1")

    def test_the_harmless_call(self, gemini: Gemini, google: GeminiStandIn) -> None:
        gemini.ping()
        with pytest.raises(RefusedError, match="the API key is not accepted"):
            gemini_at(google.url, key="wrong").ping()
        assert google.operations == []


OUTCOMES = ("success", "rate_limited", "server_error", "unauthorized", "rejected", "timeout")


@pytest.fixture
def folder(tmp_path: Path, settings: Any) -> Path:
    settings.MEDIA_STORE_URL = f"file://{tmp_path}/media"
    return tmp_path / "media"


@pytest.fixture
def configured(google: GeminiStandIn, settings: Any, folder: Path, messages: Any) -> GeminiStandIn:
    settings.VEO_API_KEY, settings.GEMINI_API_URL = KEY, google.url
    settings.AI_TIMEOUT = 3
    return google


@pytest.fixture
def make_job(user: Any) -> Callable[..., AIJob]:
    def make(**values: Any) -> AIJob:
        defaults = {"kind": "video", "provider": "gemini", "prompt": "A greenhouse", "seconds": 4}
        return AIJob.objects.create(owner=user, sent_at=timezone.now(), **defaults | values)

    return make


def run(job: AIJob, **options: Any) -> str:
    """The next step of the job, at once."""
    AIJob.objects.filter(pk=job.pk, status="waiting").update(sent_at=timezone.now())
    outcome = runner.run(str(job.pk), **options)
    job.refresh_from_db()
    return outcome


class TestSteps:
    def test_a_video_is_started_once_and_arrives(
        self,
        make_job: Callable[..., AIJob],
        configured: GeminiStandIn,
        counter: Callable[..., Any],
        messages: Callable[[str], list[Any]],
    ) -> None:
        configured.operation_seconds = 1000
        stored = counter("posthub_media_stored_bytes_total", kind="video")
        job = make_job()
        assert [run(job) for _ in range(3)] == ["waiting"] * 3
        # The next look is not due yet; its message waits with a time.
        assert runner.run(str(job.pk)) == "nothing to do"
        sent = messages("ai_jobs")
        assert [message.args for message in sent] == [(str(job.pk),)] * 3
        assert all(message.eta for message in sent)
        configured.operations[0].end = 0
        assert run(job) == "succeeded"
        asset = job.asset
        assert asset is not None
        assert (asset.kind, asset.content_type, asset.width, asset.duration) == (
            "video",
            "video/mp4",
            1280,
            4,
        )
        assert b"".join(media.stream(asset, 0, asset.size - 1)) == VIDEO
        assert (len(configured.operations), configured.polls, configured.downloads) == (1, 3, 1)
        assert counter("posthub_media_stored_bytes_total", kind="video") == stored + len(VIDEO)
        assert run(job, again=True) == "nothing to do"

    def test_without_a_list_a_worker_that_died_during_the_start_leaves_a_job_in_doubt(
        self, make_job: Callable[..., AIJob], configured: GeminiStandIn, counter: Callable[..., Any]
    ) -> None:
        job = make_job(status="running", attempts=1)
        Operation.objects.create(job=job, intended_at=timezone.now())
        unknown = counter("posthub_ai_jobs_total", kind="video", status="unknown")
        assert run(job, again=True) == "unknown"
        assert (job.error, configured.operations) == ("a worker died while it started the video", [])
        assert counter("posthub_ai_jobs_total", kind="video", status="unknown") == unknown + 1
        assert run(job, again=True) == "nothing to do"
        services.recover()
        assert run(job) == "nothing to do"

    @pytest.mark.parametrize("code", [500, 503])
    def test_an_answer_that_proves_nothing_is_not_followed_by_a_second_start(
        self, make_job: Callable[..., AIJob], configured: GeminiStandIn, code: int
    ) -> None:
        configured.lists = False
        configured.failures["predictLongRunning"] = (code, "STATUS")
        job = make_job()
        assert run(job) == "unknown"
        configured.failures.clear()
        assert run(job, again=True) == "nothing to do"
        assert configured.operations == []

    def test_an_operation_whose_acceptance_got_lost_is_found(
        self, make_job: Callable[..., AIJob], configured: GeminiStandIn, settings: Any, counter: Any
    ) -> None:
        """Next to one of another program that was there before, and one of another job."""
        gemini_at(configured.url, video_model=settings.GEMINI_VIDEO_MODEL).start("of another program", 4)
        other = make_job()
        run(other)
        settings.AI_TIMEOUT = 0.3
        configured.answering.clear()
        job = make_job()
        seconds = counter("posthub_ai_video_seconds_total", provider="gemini")
        assert run(job) == "waiting"
        assert job.error == "gemini did not answer in time"
        configured.answering.set()
        assert [run(other), run(job), run(job)] == ["succeeded", "waiting", "succeeded"]
        assert Operation.objects.get(job=job).name == configured.operations[2].name
        assert len(configured.operations) == 3
        assert counter("posthub_ai_video_seconds_total", provider="gemini") == seconds + job.seconds

    def test_an_operation_that_is_not_listed_leaves_a_job_in_doubt(
        self, make_job: Callable[..., AIJob], configured: GeminiStandIn, settings: Any
    ) -> None:
        configured.failures["predictLongRunning"] = (503, "UNAVAILABLE")
        job = make_job()
        assert [run(job), run(job)] == ["waiting", "waiting"]
        Operation.objects.update(intended_at=timezone.now() - timedelta(seconds=2 * settings.AI_TIMEOUT + 1))
        assert run(job) == "unknown"
        assert "lists 0 new operations" in job.error
        assert configured.operations == []

    def test_several_new_operations_leave_a_job_in_doubt(
        self, make_job: Callable[..., AIJob], configured: GeminiStandIn, settings: Any
    ) -> None:
        """Someone else uses the same project: no one knows whose operation is whose."""
        configured.failures["predictLongRunning"] = (503, "UNAVAILABLE")
        job = make_job()
        run(job)
        configured.failures.clear()
        stranger = gemini_at(configured.url, video_model=settings.GEMINI_VIDEO_MODEL)
        stranger.start("x", 4)
        stranger.start("x", 4)
        assert run(job) == "unknown"
        assert "lists 2 new operations" in job.error

    def test_an_operation_that_may_be_another_jobs_is_not_taken(
        self, make_job: Callable[..., AIJob], configured: GeminiStandIn, settings: Any
    ) -> None:
        configured.failures["predictLongRunning"] = (503, "UNAVAILABLE")
        job, other = make_job(), make_job()
        run(job)
        configured.failures.clear()
        open_start = Operation.objects.create(job=other, intended_at=timezone.now(), listed_before=[])
        provider = gemini_at(configured.url, video_model=settings.GEMINI_VIDEO_MODEL)
        name = provider.start("that of the other job", 4)
        assert run(job) == "waiting"
        assert Operation.objects.get(job=job).name == ""
        steps.adopt(other, name)
        assert run(job) == "waiting"
        open_start.refresh_from_db()
        assert (open_start.name, Operation.objects.get(job=job).name) == (name, "")

    @pytest.mark.parametrize(
        ("failure", "outcome"), [((503, "UNAVAILABLE"), "waiting"), ((404, "NOT_FOUND"), "unknown")]
    )
    def test_a_list_that_fails_is_waited_for_and_one_that_is_refused_is_not(
        self, make_job: Callable[..., AIJob], configured: GeminiStandIn, failure: Any, outcome: str
    ) -> None:
        configured.failures["predictLongRunning"] = (503, "UNAVAILABLE")
        job = make_job()
        run(job)
        configured.failures["operations"] = failure
        assert run(job) == outcome
        assert str(failure[0]) in job.error

    def test_a_name_that_is_recorded_while_the_job_is_given_up_revives_it(
        self, make_job: Callable[..., AIJob], configured: GeminiStandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = make_job()

        def meanwhile(given: AIJob) -> None:
            Operation.objects.create(
                job=given,
                name="models/veo/operations/op1",
                intended_at=timezone.now(),
                accepted_at=timezone.now(),
            )
            raise steps.InDoubtError("no name yet")

        with monkeypatch.context() as slow:
            slow.setattr(steps, "make", meanwhile)
            run(job)
        assert (job.status, job.error) == ("waiting", "")

    def test_a_start_that_was_turned_away_is_tried_again(
        self, make_job: Callable[..., AIJob], configured: GeminiStandIn
    ) -> None:
        configured.failures["predictLongRunning"] = (429, "RESOURCE_EXHAUSTED")
        job = make_job()
        with pytest.raises(TryLaterError):
            run(job)
        assert (job.status, Operation.objects.count()) == ("queued", 0)
        configured.failures.clear()
        assert [run(job), run(job)] == ["waiting", "succeeded"]
        assert len(configured.operations) == 1

    def test_a_name_that_comes_late_revives_the_job(
        self, make_job: Callable[..., AIJob], configured: GeminiStandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The first worker was slow, not dead, and another one has taken the job over."""
        job = make_job()
        original = Gemini.start

        def slow(self: Gemini, prompt: str, seconds: int) -> str:
            name = original(self, prompt, seconds)
            assert runner.run(str(job.pk), again=True) == "unknown"
            return name

        configured.lists = False
        monkeypatch.setattr(Gemini, "start", slow)
        run(job)
        assert (job.status, job.finished_at) == ("waiting", None)
        assert run(job) == "succeeded"
        assert len(configured.operations) == 1

    def test_a_database_that_is_briefly_unavailable_does_not_lose_the_name(
        self, make_job: Callable[..., AIJob], configured: GeminiStandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(steps, "RECORDING", (0, 0, 0))
        monkeypatch.setattr(steps, "close_old_connections", lambda: None)
        failures, original = [1, 2], steps.adopt

        def fail_twice(job: AIJob, name: str) -> None:
            if failures:
                failures.pop()
                raise OperationalError("gone")
            original(job, name)

        monkeypatch.setattr(steps, "adopt", fail_twice)
        job = make_job()
        assert [run(job), run(job)] == ["waiting", "succeeded"]

    @pytest.mark.parametrize("failure", [("operations", 503), ("operations", 403), ("files", 500)])
    def test_a_failure_after_the_start_is_waited_out(
        self, make_job: Callable[..., AIJob], configured: GeminiStandIn, failure: tuple[str, int]
    ) -> None:
        job = make_job()
        run(job)
        configured.failures[failure[0]] = (failure[1], "STATUS")
        assert {run(job) for _ in range(6)} == {"waiting"}
        assert str(failure[1]) in job.error
        configured.failures.clear()
        assert run(job) == "succeeded"
        assert (len(configured.operations), job.error) == (1, "")

    def test_a_key_that_was_replaced_at_the_provider_is_waited_out(
        self, make_job: Callable[..., AIJob], configured: GeminiStandIn, settings: Any
    ) -> None:
        job = make_job()
        run(job)
        settings.VEO_API_KEY = "revoked"
        assert run(job) == "waiting"
        assert job.error == "gemini answered 400: the API key is not accepted"
        settings.VEO_API_KEY = KEY
        assert run(job) == "succeeded"

    def test_a_video_that_does_not_end_is_given_up_at_the_deadline(
        self, make_job: Callable[..., AIJob], configured: GeminiStandIn
    ) -> None:
        configured.operation_seconds = 1000
        job = make_job()
        run(job)
        Operation.objects.update(accepted_at=timezone.now() - timedelta(seconds=7201))
        assert run(job) == "failed"
        assert job.error == "no video within 7200 s: the provider has not finished it"

    @pytest.mark.parametrize(
        ("content", "words"), [(b"<html>" * 9, "not an MP4"), (VIDEO[:-5], "incomplete")], ids=["html", "cut"]
    )
    def test_what_is_not_a_video_fails_the_job_and_stores_nothing(
        self,
        make_job: Callable[..., AIJob],
        configured: GeminiStandIn,
        folder: Path,
        content: bytes,
        words: str,
    ) -> None:
        configured.video = content
        job = make_job()
        assert [run(job), run(job)] == ["waiting", "failed"]
        assert words in job.error
        assert [path for path in folder.rglob("*") if path.is_file()] == []

    def test_a_store_that_fails_is_waited_out(
        self, make_job: Callable[..., AIJob], configured: GeminiStandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = make_job()
        run(job)
        with monkeypatch.context() as broken:
            error = store.StoreError("full")
            broken.setattr(store.FolderStore, "put_stream", lambda *_: (_ for _ in ()).throw(error))
            assert run(job) == "waiting"
        assert job.error == "full"
        assert run(job) == "succeeded"

    def test_a_cancelled_video_is_not_stored(
        self,
        make_job: Callable[..., AIJob],
        configured: GeminiStandIn,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        job = make_job()
        run(job)
        original = Gemini.download

        def meanwhile(self: Gemini, address: str) -> Any:
            services.cancel(job)
            return original(self, address)

        monkeypatch.setattr(Gemini, "download", meanwhile)
        assert run(job) == "cancelled in the meantime"
        assert (job.status, Asset.objects.count()) == ("cancelled", 0)
        assert [path for path in folder.rglob("*") if path.is_file()] == []

    def test_many_workers_may_die_after_the_start_up_to_a_limit(
        self, make_job: Callable[..., AIJob], configured: GeminiStandIn
    ) -> None:
        job = make_job()
        run(job)
        AIJob.objects.update(status="running", attempts=20)
        assert run(job, again=True) == "succeeded"
        AIJob.objects.update(status="running", attempts=90)
        assert run(job, again=True) == "nothing to do"
        assert (job.status, job.error) == ("failed", "worker lost during every attempt")

    def test_a_message_that_was_lost_is_sent_again(
        self,
        make_job: Callable[..., AIJob],
        configured: GeminiStandIn,
        messages: Callable[[str], list[Any]],
        settings: Any,
        run_on_commit: Callable[[], Any],
    ) -> None:
        job = make_job()
        run(job)
        assert services.recover() == {"failed": 0, "resent": 0}
        AIJob.objects.update(sent_at=timezone.now() - timedelta(seconds=settings.AI_VIDEO_POLL * 13))
        before = len(messages("ai_jobs"))
        assert services.recover() == {"failed": 0, "resent": 1}
        assert len(messages("ai_jobs")) == before + 1
        assert services.recover() == {"failed": 0, "resent": 0}

    def test_the_sandbox_makes_videos_too(
        self, make_job: Callable[..., AIJob], folder: Path, messages: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = make_job(provider="sandbox", seconds=6)
        assert run(job) == "waiting"
        Operation.objects.update(name="operations/1-6")
        assert run(job) == "succeeded"
        assert job.asset is not None
        assert job.asset.duration == 6


class TestCommand:
    def test_an_operation_that_a_person_has_found_is_continued(
        self, make_job: Callable[..., AIJob], configured: GeminiStandIn
    ) -> None:
        job = make_job(status="running", attempts=1)
        name = gemini_at(configured.url).start("A greenhouse", 4)
        Operation.objects.create(job=job, intended_at=timezone.now())
        assert run(job, again=True) == "unknown"
        call_command("resume_video", str(job.pk), name, stdout=io.StringIO())
        assert run(job) == "succeeded"
        assert len(configured.operations) == 1

    def test_mistakes_are_named(self, make_job: Callable[..., AIJob]) -> None:
        job = make_job()
        for arguments, words in (
            (("x", "operations/a"), "no video job x"),
            ((str(uuid.uuid4()), "operations/a"), "no video job"),
            ((str(job.pk), "a/b"), "not a valid name"),
            ((str(job.pk), "operations/a"), "the job is queued"),
        ):
            with pytest.raises(CommandError, match=words):
                call_command("resume_video", *arguments)


class TestApi:
    @pytest.fixture
    def asset(self, make_job: Callable[..., AIJob], configured: GeminiStandIn) -> Asset:
        job = make_job()
        run(job)
        run(job)
        assert job.asset is not None
        return job.asset

    def test_a_video_is_requested_and_shown(
        self,
        api: APIClient,
        folder: Path,
        messages: Callable[[str], list[Any]],
        run_on_commit: Callable[[], Any],
    ) -> None:
        with run_on_commit():
            answer = api.post("/api/v1/ai/videos/", {"prompt": "A greenhouse", "seconds": 6}, format="json")
        assert (answer.status_code, answer.json()["seconds"]) == (202, 6)
        (message,) = messages("ai_jobs")
        assert runner.run(message.args[0]) == "waiting"
        assert api.get(f"/api/v1/ai/jobs/{message.args[0]}/").json()["status"] == "waiting"
        with run_on_commit():
            assert api.post(f"/api/v1/ai/jobs/{message.args[0]}/cancel/").json()["status"] == "cancelled"

    def test_other_lengths_are_refused(self, api: APIClient, folder: Path) -> None:
        answer = api.post("/api/v1/ai/videos/", {"prompt": "x", "seconds": 60}, format="json")
        assert (answer.status_code, list(answer.json())) == (400, ["seconds"])

    def test_what_is_missing_is_reported(self, api: APIClient, settings: Any) -> None:
        settings.MEDIA_STORE_URL = ""
        answer = api.post("/api/v1/ai/videos/", {"prompt": "x"}, format="json")
        assert (answer.status_code, answer.json()["code"]) == (503, "no_media_store")
        assert api.get("/api/v1/me/").json()["ai_videos"] is False
        settings.SANDBOX_ALLOWED = False
        answer = api.post("/api/v1/ai/videos/", {"prompt": "x"}, format="json")
        assert (answer.status_code, answer.json()["code"]) == (503, "no_video_provider")

    def test_the_plan_limits_the_seconds_of_a_day(
        self, api: APIClient, settings: Any, folder: Path, user: Any, counter: Callable[..., Any]
    ) -> None:
        settings.AI_DAILY_QUOTAS = {
            plan: {"caption": 1, "image": 1, "video": 10} for plan in ("free", "paid")
        }
        refused = counter("posthub_ai_quota_refusals_total", kind="video")
        asked = [
            api.post("/api/v1/ai/videos/", {"prompt": "x", "seconds": seconds}, format="json")
            for seconds in (6, 6, 4, 4)
        ]
        assert [answer.status_code for answer in asked] == [202, 429, 202, 429]
        assert asked[1].json()["detail"] == "The plan allows 10 seconds of video a day, and 6 are used."
        assert counter("posthub_ai_quota_refusals_total", kind="video") == refused + 2
        shown = {quota["kind"]: quota for quota in api.get("/api/v1/me/").json()["quotas"]}
        assert shown["video"] == {"kind": "video", "unit": "seconds", "limit": 10, "used": 10}
        # What failed, or never started, is not counted; what may have been billed is.
        AIJob.objects.filter(seconds=6).update(status="failed")
        AIJob.objects.filter(seconds=4).update(status="unknown")
        assert quotas.of(user, "video").used == 4

    def test_a_browser_plays_it_in_parts(self, asset: Asset) -> None:
        path = links.path(asset, "original")
        whole = APIClient().get(path)
        assert (whole.status_code, whole.headers["Accept-Ranges"]) == (200, "bytes")
        assert whole.getvalue() == VIDEO
        assert whole.headers["Content-Type"] == "video/mp4"
        part = APIClient().get(path, headers={"Range": "bytes=100-199"})
        assert (part.status_code, part.getvalue()) == (206, VIDEO[100:200])
        assert part.headers["Content-Range"] == f"bytes 100-199/{len(VIDEO)}"
        assert part.headers["Content-Length"] == "100"
        beyond = APIClient().get(path, headers={"Range": f"bytes={len(VIDEO)}-"})
        assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, f"bytes */{len(VIDEO)}")

    def test_a_video_has_no_thumbnail(self, api: APIClient, asset: Asset) -> None:
        (shown,) = api.get("/api/v1/media/").json()["results"]
        assert (shown["thumbnail_url"], shown["duration"]) == (None, 4)
        answer = APIClient().get(links.path(asset, "thumbnail"))
        assert (answer.status_code, answer.json()["code"]) == (404, "media_missing")
