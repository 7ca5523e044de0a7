"""Valid and invalid values of the environment, and the errors that they cause."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError

from config import env, queues, startup
from config.env import ConfigError
from config.settings.guard import problems
from stack.wait import wait_for

GOOD = {
    "DJANGO_SETTINGS_MODULE": "config.settings.production",
    "SECRET_KEY": "k3y-0f-the-tests_which-is-long-enough-and-not-all-alike-9431",
    "ALLOWED_HOSTS": "api.posthub.work,posthub.work",
    "DATABASE_URL": "postgres://posthub:p%40ss@127.0.0.1:1/posthub",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "CELERY_BROKER_URL": "redis://127.0.0.1:1/0",
    "CORS_ALLOWED_ORIGINS": "https://posthub.work",
}


@pytest.fixture
def run(app_folder: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*command: Any, **changes: Any) -> subprocess.CompletedProcess[str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        environment = {
            name: value for name, value in {**kept, **GOOD, **changes}.items() if value is not None
        }
        return subprocess.run(
            [sys.executable, *command],
            cwd=app_folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def broker(name: str) -> Any:
    return env.address(name, "", queues.BROKERS)


SAFE: dict[str, Any] = {
    "secret_key": GOOD["SECRET_KEY"],
    "debug": False,
    "hosts": ["api.posthub.work", ".posthub.work"],
}


class TestGuard:
    def test_good(self) -> None:
        assert problems(**SAFE) == []

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"secret_key": ""}, "SECRET_KEY is not set"),
            ({"secret_key": "django-insecure-" + "abcdefghij" * 6}, "placeholder"),
            ({"secret_key": "<production-secret>"}, "placeholder"),
            ({"secret_key": "CHANGE-ME" + "abcdefghij" * 6}, "placeholder"),
            ({"secret_key": "only-while-the-image-is-built-0123456789-abcdefghijklm"}, "placeholder"),
            ({"secret_key": "short"}, "too weak"),
            ({"secret_key": "a" * 60}, "too weak"),
            ({"secret_key": ("abcde" * 10)[:49]}, "too weak"),
            ({"secret_key": "abcd" * 15}, "too weak"),
            ({"hosts": ["."]}, "wildcard '.'"),
            ({"debug": True}, "DEBUG is true"),
            ({"hosts": []}, "ALLOWED_HOSTS is empty"),
            ({"hosts": ["api.posthub.work", "*"]}, "wildcard '*'"),
            ({"hosts": ["*.posthub.work"]}, "wildcard"),
            ({"missing": ["REDIS_URL"]}, "REDIS_URL is not set"),
            (
                {"providers": {"GEMINI_API_URL": "http://127.0.0.1:1"}},
                "GEMINI_API_URL does not begin with https://",
            ),
            (
                {"forbidden": ["STRIPE_API_BASE"]},
                "STRIPE_API_BASE is set, which is allowed only in development",
            ),
        ],
    )
    def test_bad(self, change: Any, words: str) -> None:
        (problem,) = problems(**SAFE | change)
        assert words in problem

    @pytest.mark.parametrize(
        "begin", ["changeme", "production-secret", "your-secret", "replace", "Django-Insecure", "<"]
    )
    def test_a_key_from_a_template_is_a_placeholder_however_long(self, begin: str) -> None:
        assert problems(**SAFE | {"secret_key": begin + GOOD["SECRET_KEY"]}) == [
            "SECRET_KEY is a placeholder"
        ]

    def test_the_shortest_and_least_varied_key(self) -> None:
        assert problems(**SAFE | {"secret_key": "abcde" * 10}) == []

    def test_https_is_enough_for_a_provider(self) -> None:
        assert problems(**SAFE, providers={"GEMINI_API_URL": "https://example.com"}) == []

    def test_a_key_is_never_repeated(self) -> None:
        assert "hunter2" not in str(problems(**SAFE | {"secret_key": "hunter2"}))


class TestProduction:
    """The real programs, started with the settings of production."""

    def test_it_passes_djangos_own_deployment_checks(self, run: Any) -> None:
        done = run("manage.py", "check", "--deploy", "--fail-level", "WARNING")
        assert done.returncode == 0, done.stderr

    def test_addresses_of_clients_are_what_the_one_proxy_says(self, run: Any) -> None:
        """0 would trust the client's header, so that no one would ever reach a limit."""
        code = "from django.conf import settings; print(settings.REST_FRAMEWORK['NUM_PROXIES'])"
        for changes, number in (({}, "1"), ({"API_NUM_PROXIES": "2"}, "2")):
            done = run("manage.py", "shell", "--verbosity", "0", "--command", code, **changes)
            assert done.stdout.split() == [number], done.stderr

    @pytest.mark.parametrize(
        "program",
        [
            ("manage.py", "check"),
            ("-m", "gunicorn", "--bind", "127.0.0.1:0", "--workers", "1", "config.wsgi:application"),
            ("-m", "celery", "-A", "config", "worker", "-Q", "default"),
            ("-m", "celery", "-A", "config", "beat"),
        ],
        ids=["manage", "gunicorn", "worker", "beat"],
    )
    def test_it_refuses_to_start_and_reports_every_problem(
        self,
        run: Any,
        program: tuple[str, str, str, str, str, str, str] | tuple[str, str, str, str, str] | tuple[str, str],
    ) -> None:
        done = run(*program, SECRET_KEY="django-insecure-x", DEBUG="True", ALLOWED_HOSTS="*", REDIS_URL=None)
        assert done.returncode == 2, done.stderr
        assert "Error: production settings refuse to start: " in done.stderr
        assert "\nTry: correct .env.production" in done.stderr
        for words in ("SECRET_KEY is a placeholder", "DEBUG is true", "wildcard", "REDIS_URL is not set"):
            assert words in done.stderr
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize(
        ("name", "value", "words"),
        [
            ("LOG_LEVEL", "verbose", "LOG_LEVEL is 'verbose', which is not a valid log level"),
            ("CORS_ALLOWED_ORIGINS", "posthub.work", "has 'posthub.work', which is not a valid origin"),
            ("WEBHOOK_TIMEOUT", "60", "WEBHOOK_TIMEOUT is 60, above its maximum 50"),
            ("WEBHOOK_TIMEOUT", "nan", "WEBHOOK_TIMEOUT is nan, below its minimum 0.1"),
            ("CELERY_VISIBILITY_TIMEOUT", "10", "CELERY_VISIBILITY_TIMEOUT is 10, below its minimum 601"),
            ("SENTRY_DSN", "hunter7", "SENTRY_DSN is not a valid DSN"),
            ("REDIS_URL", "hunter7", "REDIS_URL must begin with one of redis://, "),
            (
                "STRIPE_SECRET_KEY",
                "hunter7",
                "STRIPE_SECRET_KEY has a value that does not begin with sk_ or rk_",
            ),
            ("STRIPE_WEBHOOK_SECRET", "whsec_1,hunter7", "does not begin with whsec_"),
            ("STRIPE_PRICE_PRO", "prod_1", "STRIPE_PRICE_PRO has a value that does not begin with price_"),
            ("CELERY_BROKER_URL", "hunter7", "CELERY_BROKER_URL must begin with one of redis://, "),
            ("BILLING_EVENT_RETENTION_DAYS", "30", "below its minimum 31"),
        ],
    )
    def test_an_invalid_value_prevents_the_start(self, run: Any, name: str, value: str, words: str) -> None:
        done = run("manage.py", "check", **{name: value})
        assert done.returncode == 2
        problem, hint = done.stderr.splitlines()
        assert problem.startswith(f"Error: {name} ")
        assert words in problem
        assert hint.startswith(f"Try: {name}=")
        assert "hunter7" not in done.stdout + done.stderr

    def test_a_password_that_breaks_the_address_is_not_shown(self, run: Any) -> None:
        done = run("manage.py", "check", DATABASE_URL="postgres://posthub:hunter7/Qx42@db/posthub")
        assert done.returncode == 2
        assert done.stderr.startswith(
            "Error: DATABASE_URL is not a valid address\nTry: DATABASE_URL=postgres://"
        )
        for part in ("hunter7", "Qx42", "Traceback"):
            assert part not in done.stdout + done.stderr

    def test_the_image_is_built_with_valid_settings_and_a_generated_key(self, app_folder: Path) -> None:
        dockerfile = (app_folder / "Dockerfile").read_text()
        build = re.search(
            r"^RUN (DJANGO_SETTINGS_MODULE=.*? collectstatic --noinput)", dockerfile, re.MULTILINE | re.DOTALL
        )
        assert build is not None
        command = build[1].replace("/opt/venv/bin/python", shlex.quote(sys.executable)) + " --dry-run"
        environment = {"PATH": os.environ["PATH"]}
        done = subprocess.run(
            ["sh", "-c", command], cwd=app_folder, env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert re.findall(r"SECRET_KEY=(..)", dockerfile) == ["$("]

    @pytest.mark.parametrize(
        ("changes", "header"),
        [
            ({}, "max-age=31536000"),
            ({"SECURE_HSTS_SECONDS": "60"}, "max-age=60"),
            (
                {"SECURE_HSTS_INCLUDE_SUBDOMAINS": "true", "SECURE_HSTS_PRELOAD": "true"},
                "max-age=31536000; includeSubDomains; preload",
            ),
        ],
    )
    def test_browsers_keep_subdomains_and_preload_only_on_request(
        self, run: Any, changes: dict[str, Any], header: str
    ) -> None:
        code = (
            "import django; django.setup()\n"
            "from django.test import Client\n"
            "answer = Client().get('/nowhere/', secure=True, headers={'Host': 'posthub.work'})\n"
            "print(answer.headers['Strict-Transport-Security'])"
        )
        done = run("-c", code, **changes)
        assert done.stdout.splitlines()[-1:] == [header], done.stderr

    def test_flower_needs_neither_a_key_nor_a_database(self, run: Any) -> None:
        code = (
            "import django; django.setup(); from config import celery_app as app; from django.conf import settings;"
            " print(app.conf.broker_url, settings.DATABASES['default']['ENGINE'], len(settings.SECRET_KEY) > 50,"
            " len(app.tasks) > 5)"
        )
        missing = dict.fromkeys(("SECRET_KEY", "DATABASE_URL", "REDIS_URL", "ALLOWED_HOSTS"))
        flower = {"DJANGO_SETTINGS_MODULE": "config.settings.flower", "CELERY_BROKER_URL": "redis://broker/0"}
        done = run("-c", code, **missing, **flower)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split("\n")[0] == "redis://broker/0 django.db.backends.dummy True True"

    def test_the_demo_data_is_refused(self, run: Any) -> None:
        done = run("manage.py", "seed_demo", "--json")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("Error: demo data is refused by these settings\nTry: ")
        # In production, this is required instead.
        assert "createsuperuser" in done.stderr

    def test_a_stand_in_for_stripe_is_refused(self, run: Any) -> None:
        done = run("manage.py", "check", STRIPE_API_BASE="http://127.0.0.1:1")
        assert done.returncode == 2
        assert "STRIPE_API_BASE is set, which is allowed only in development" in done.stderr

    def test_the_sandbox_cannot_be_switched_on(self, run: Any) -> None:
        code = "from django.conf import settings as s; print(s.SANDBOX_ALLOWED, s.WEBHOOK_ALLOW_PRIVATE, s.DEBUG)"
        assert run("-c", code, SANDBOX_ALLOWED="true").stdout == "False False False\n"

    def test_secrets_may_be_files(self, run: Any, tmp_path: Path) -> None:
        (tmp_path / "key").write_text(GOOD["SECRET_KEY"] + "\n")
        (tmp_path / "url").write_text("postgres://posthub:from-file@db:5432/posthub\n")
        code = (
            "from django.conf import settings as s; print(s.SECRET_KEY, s.DATABASES['default']['PASSWORD'])"
        )
        files = {"SECRET_KEY_FILE": str(tmp_path / "key"), "DATABASE_URL_FILE": str(tmp_path / "url")}
        done = run("-c", code, SECRET_KEY=None, DATABASE_URL=None, **files)
        assert done.stdout == f"{GOOD['SECRET_KEY']} from-file\n"


class TestDatabaseAtTheStart:
    """Beat ended when the database refused its first connection, and was restarted once or twice in each deployment.

    All of them load while the database of a first start is made.
    """

    @pytest.mark.parametrize(
        "program",
        [
            "-m celery -A config beat --scheduler django_celery_beat.schedulers:DatabaseScheduler",
            "-m celery -A config worker -Q default --pool solo",
            "-m gunicorn --bind 127.0.0.1:0 --workers 1 config.wsgi:application",
            "manage.py migrate --noinput",
        ],
    )
    def test_it_is_awaited(self, app_folder: Path, tmp_path: Path, program: str) -> None:
        environment = {**GOOD, "PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)}
        log = tmp_path / "log"
        with (
            log.open("w") as output,
            subprocess.Popen(
                [sys.executable, *program.split()],
                cwd=app_folder,
                env=environment,
                stdout=output,
                stderr=output,
            ) as started,
        ):
            try:
                # Twice: after the first attempt, it has slept.
                wait_for(
                    lambda: (
                        log.read_text().count("waiting for the database") > 1 or started.poll() is not None
                    ),
                    timeout=60,
                    what="a second attempt",
                    hint=str(log),
                )
                assert started.poll() is None, log.read_text()
            finally:
                started.kill()

    @pytest.mark.django_db
    def test_a_database_that_answers_is_not_waited_for(self) -> None:
        startup.await_database(seconds=60, pause=100)

    @pytest.mark.parametrize(
        ("answer", "attempts"),
        [
            ('FATAL:  password authentication failed for user "posthub"', 1),
            ('FATAL:  database "posthub" does not exist', 1),
            ("FATAL:  the database system is starting up", 3),
            ("FATAL:  sorry, too many clients already", 3),
            ("connection refused", 3),
        ],
    )
    def test_a_refusal_that_no_time_changes_is_not_waited_for(
        self, monkeypatch: pytest.MonkeyPatch, answer: str, attempts: int
    ) -> None:
        calls: list[int] = []

        def refuse() -> None:
            calls.append(1)
            if len(calls) < 3:
                raise OperationalError(answer)

        monkeypatch.setattr(startup.connection, "ensure_connection", refuse)
        startup.await_database(seconds=60, pause=0)
        assert len(calls) == attempts

    def test_the_wait_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[int] = []

        def refuse() -> None:
            calls.append(1)
            raise OperationalError

        monkeypatch.setattr(startup.connection, "ensure_connection", refuse)
        startup.await_database(seconds=0.2, pause=0.05)
        assert 1 < len(calls) < 10


class TestMigrationsAtTheStart:
    """Another container applies them while API, workers and beat load. Until then, none of them may begin."""

    @pytest.fixture
    def answers(self, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
        """What is missing, at each look; the last answer stays."""
        answers: list[list[str]] = []
        monkeypatch.setattr(startup, "await_database", lambda: None)
        monkeypatch.setattr(startup.connection, "close", lambda: None)
        monkeypatch.setattr(
            "monitoring.migrations.unapplied", lambda: answers.pop(0) if len(answers) > 1 else answers[0]
        )
        return answers

    def test_they_are_awaited(self, answers: list[list[str]]) -> None:
        answers += [["posts.0001", "posts.0002"], ["posts.0002"], []]
        assert startup.await_migrations(seconds=60, pause=0) == []
        assert answers == [[]]

    def test_the_wait_ends(self, answers: list[list[str]]) -> None:
        answers.append(["posts.0002"])
        assert startup.await_migrations(seconds=0.2, pause=0.05) == ["posts.0002"]

    def test_a_database_that_refuses_is_left_to_the_program(
        self, answers: list[list[str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse() -> list[str]:
            raise OperationalError

        monkeypatch.setattr("monitoring.migrations.unapplied", refuse)
        assert startup.await_migrations(seconds=60, pause=60) == []

    @pytest.mark.parametrize("program", ["worker", "beat"])
    def test_a_program_of_celery_ends_without_them(
        self,
        answers: list[list[str]],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        program: str,
    ) -> None:
        """A task that meets older tables would fail permanently."""
        from config.celery import await_migrations

        monkeypatch.setattr("sys.argv", ["celery", "-A", "config", program])
        monkeypatch.setattr(startup, "await_migrations", lambda: ["posts.0002"])
        with pytest.raises(SystemExit) as ended:
            await_migrations()
        assert ended.value.code == 1
        assert "1 migrations are not applied, such as posts.0002\nTry: " in capsys.readouterr().err


class TestEnvironment:
    @pytest.mark.parametrize(("value", "meant"), [("True", True), ("1", True), ("no", False), ("off", False)])
    def test_flags(self, monkeypatch: pytest.MonkeyPatch, value: str, meant: bool) -> None:
        monkeypatch.setenv("X", value)
        assert env.flag("X") is meant

    def test_lists(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("X", " a, b ,,c")
        assert env.names("X") == ["a", "b", "c"]
        assert env.names("Y", ["d"]) == ["d"]

    def test_files_are_stripped(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "x").write_text("secret\n")
        monkeypatch.setenv("X_FILE", str(tmp_path / "x"))
        assert env.text("X") == "secret"

    def test_the_password_of_the_database_is_decoded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("X", "postgresql://me:p%40ss%2Fword@db:5433/posthub?sslmode=require")
        config = env.database("X")
        assert (config["PASSWORD"], config["HOST"], config["PORT"]) == ("p@ss/word", "db", 5433)
        assert config["OPTIONS"] == {"sslmode": "require"}
        assert config["ENGINE"] == "django_prometheus.db.backends.postgresql"

    @pytest.mark.parametrize(
        "url",
        [
            "postgres://me@db/posthub",
            "postgres://me:p#ss@db/posthub?connect_timeout=3",
            "postgres://one:5432,two:5432/posthub",
            "postgres:///posthub?host=/run/pg@1",
            "postgres://db/posthub?user=me@db",
        ],
    )
    def test_addresses_of_the_database(self, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
        monkeypatch.setenv("X", url)
        assert env.database("X")["NAME"] == "posthub"

    @pytest.mark.parametrize(
        "url",
        [
            "redis://",
            "redis://:p%2Fss@cache:6379/0",
            "rediss://cache:6380/1?ssl_ca_certs=/etc/ca@home.pem",
            "redis+socket:///run/redis@1/redis.sock",
            "sentinel://:p@one:26379/0;sentinel://:p@two:26379/0;",
            "amqp://guest:guest@rabbit:5672//",
            "amqps://rabbit/posthub",
            "memory://",
        ],
    )
    def test_addresses_of_the_broker(self, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
        monkeypatch.setenv("X", url)
        assert env.address("X", "", queues.BROKERS) == url

    @pytest.mark.parametrize("url", ["redis://cache:0/0", "redis://cache:6379/0#x", "redis://cache:x/0"])
    def test_an_address_that_cannot_be_reached_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, url: str
    ) -> None:
        monkeypatch.setenv("X", url)
        with pytest.raises(ConfigError, match="X is not a valid address"):
            broker("X")

    def test_levels_and_origins(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("X", "debug")
        assert env.level("X", "INFO") == "DEBUG"
        monkeypatch.setenv("X", "https://posthub.work, http://localhost:4200,capacitor://localhost")
        assert env.origins("X") == ["https://posthub.work", "http://localhost:4200", "capacitor://localhost"]

    @pytest.mark.parametrize("rate", ["10/min", "600/m", "5/hour", "1/s"])
    def test_rates(self, monkeypatch: pytest.MonkeyPatch, rate: str) -> None:
        monkeypatch.setenv("X", rate)
        assert env.rate("X", "1/s") == rate

    def test_a_rate_can_be_disabled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("X", "off")
        assert env.rate("X", "1/s") is None

    @pytest.mark.parametrize(
        ("read", "value", "words"),
        [
            (env.flag, "perhaps", "not a valid boolean"),
            (lambda name: env.whole(name, 5), "many", "not a whole number"),
            (lambda name: env.whole(name, 5), "1.5", "not a whole number"),
            (lambda name: env.whole(name, 5), "-1", "below its minimum 0"),
            (lambda name: env.whole(name, 5, minimum=1), "0", "below its minimum"),
            (lambda name: env.seconds(name, 5), "soon", "not a number"),
            (lambda name: env.rate(name, "1/s"), "lots", "not a valid rate"),
            (env.database, "mysql://db/posthub", "not a postgres:// address"),
            (env.database, "", "not set"),
            (env.database, "postgres://me:letters/in@db/posthub", "not a valid address"),
            (env.database, "postgres://me:12/34@db/posthub", "not a valid address"),
            (env.database, "postgres://me:1@2/34@db/posthub", "not a valid address"),
            (env.database, "postgres://me@db:123456/posthub", "not a valid address"),
            (broker, "redsi://broker:6379/0", "must begin with one of"),
            (broker, "broker:6379", "must begin with one of"),
            (broker, "unix:///run/redis.sock", "must begin with one of"),
            (broker, "redis://:letters/in@broker", "not a valid address"),
            (broker, "redis://:12/34@broker", "not a valid address"),
            (broker, "redis://:12#34@broker", "not a valid address"),
            (broker, "redis://:12;34@broker", "not a valid address"),
            (broker, "sentinel://one:26379;two:26379", "not a valid address"),
            (env.origins, "https://posthub.work/", "not a valid origin"),
            (env.origins, "https://posthub.work,*", "'*', which is not a valid origin"),
            (env.dsn, "https://sentry.example/42", "not a valid DSN"),
            (env.dsn, "https://key@sentry.example:port/42", "not a valid DSN"),
            (env.dsn, "https://key@sentry.example/project", "not a valid DSN"),
        ],
    )
    def test_errors_name_the_variable_and_a_remedy(
        self, monkeypatch: pytest.MonkeyPatch, read: Any, value: str, words: str
    ) -> None:
        monkeypatch.setenv("MY_NAME", value)
        with pytest.raises(ConfigError) as caught:
            read("MY_NAME")
        problem, hint = str(caught.value).split("\n")
        assert problem.startswith("Error: MY_NAME")
        assert words in problem
        assert hint.startswith("Try: MY_NAME=")

    def test_a_value_and_a_file_together_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("X", "a")
        monkeypatch.setenv("X_FILE", "b")
        with pytest.raises(ConfigError, match="both set"):
            env.text("X")

    def test_a_missing_file_is_reported(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("X_FILE", str(tmp_path / "nothing"))
        with pytest.raises(ConfigError, match="cannot be read: No such file"):
            env.text("X")


def test_every_task_has_a_route_to_a_queue_that_exists() -> None:
    from config import celery_app

    celery_app.loader.import_default_modules()
    own = {name for name in celery_app.tasks if not name.startswith("celery.")}
    assert own == set(queues.TASK_ROUTES)
    assert {route["queue"] for route in queues.TASK_ROUTES.values()} == set(queues.NAMES)
    for name, route in queues.TASK_ROUTES.items():
        assert celery_app.amqp.router.route({}, name)["queue"].name == route["queue"]


def test_every_task_is_bounded_and_survives_its_worker() -> None:
    from config import celery_app

    celery_app.loader.import_default_modules()
    limit = celery_app.conf.broker_transport_options["visibility_timeout"]
    for name in queues.TASK_ROUTES:
        task: Any = celery_app.tasks[name]
        assert task.acks_late
        assert task.reject_on_worker_lost
        assert task.soft_time_limit < task.time_limit <= celery_app.conf.task_time_limit < limit


def test_no_migration_is_missing(db: None) -> None:
    from django.core.management import call_command

    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


def test_every_variable_is_documented(app_folder: Path) -> None:
    settings = "".join(path.read_text() for path in (app_folder / "config").rglob("*.py"))
    names = set(re.findall(r"\benv\.[a-z]+\(\s*\"([A-Z_]+)\"", settings))
    page = (app_folder.parent / "docs" / "app.md").read_text()
    assert len(names) > 30
    assert {name for name in names if f"`{name}`" not in page} == set()


# Values of production that no request shows, with the reason for each.
PROMISED: dict[str, Any] = {
    # The exporter counts and times tasks by these events.
    "CELERY_TASK_SEND_SENT_EVENT": True,
    "CELERY_WORKER_SEND_TASK_EVENTS": True,
    # A worker holds no message that another one could begin.
    "CELERY_WORKER_PREFETCH_MULTIPLIER": 1,
    "CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS": True,
    # A task for a queue that no worker consumes fails at once.
    "CELERY_TASK_CREATE_MISSING_QUEUES": False,
    # No result is stored that no one reads.
    "CELERY_TASK_IGNORE_RESULT": True,
    "CELERY_RESULT_BACKEND": None,
    # A task can end before it is killed.
    "CELERY_TASK_SOFT_TIME_LIMIT": 270,
    "CELERY_TASK_TIME_LIMIT": 300,
    # Caddy terminates TLS; only what our own programs ask for may come without it.
    "SECURE_SSL_REDIRECT": True,
    "SECURE_PROXY_SSL_HEADER": ["HTTP_X_FORWARDED_PROTO", "https"],
    "SECURE_REDIRECT_EXEMPT": ["^metrics$", "^health/$", "^api/v1/health/$"],
    # Customers' webhooks reach neither our network nor anything without TLS.
    "WEBHOOK_ALLOW_PRIVATE": False,
    "WEBHOOK_ALLOW_HTTP": False,
    # An old key still decrypts what it encrypted.
    "FIELD_ENCRYPTION_KEYS": [GOOD["SECRET_KEY"], "an older key"],
    # A connection that the database has closed is not used again.
    "DATABASES.default.CONN_HEALTH_CHECKS": True,
    # Without Redis the API works unthrottled, and no one can try passwords.
    "CACHES.default.OPTIONS.IGNORE_EXCEPTIONS": True,
    "CACHES.sign_in.OPTIONS.IGNORE_EXCEPTIONS": False,
    "REST_FRAMEWORK.NUM_PROXIES": 1,
    "REST_FRAMEWORK.DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "REST_FRAMEWORK.DEFAULT_THROTTLE_CLASSES": [
        "rest_framework.throttling.AnonRateThrottle",
        "rest_framework.throttling.UserRateThrottle",
        "rest_framework.throttling.ScopedRateThrottle",
    ],
    "REST_FRAMEWORK.DEFAULT_PARSER_CLASSES": ["config.parsers.Json"],
    "REST_FRAMEWORK.DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
}


def test_production_has_the_values_that_were_promised(run: Any) -> None:
    code = (
        "import json, sys; from functools import reduce; from django.conf import settings\n"
        "def value(name):\n"
        "    first, *rest = name.split('.')\n"
        "    return reduce(lambda known, key: known[key], rest, getattr(settings, first))\n"
        "print(json.dumps({name: value(name) for name in json.loads(sys.argv[1])}))"
    )
    done = run("-c", code, json.dumps([*PROMISED]), SECRET_KEY_FALLBACKS="an older key")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == PROMISED


def test_what_is_released_belongs_to_a_dead_worker() -> None:
    """Otherwise a second worker would publish what the first one is about to publish."""
    from django.conf import settings

    from ai.tasks import run_job
    from posts import fairness

    assert settings.PUBLISH_STUCK_AFTER > fairness.TIME_LIMIT
    assert run_job.time_limit < settings.AI_STUCK_AFTER
    assert settings.PUBLISH_RESEND_AFTER > settings.PUBLISH_STUCK_AFTER
