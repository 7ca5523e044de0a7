import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import psutil
import psycopg
import pytest
import redis
from botocore.config import Config

from sidecar import OpsError
from sidecar.http import session
from stack import ports
from stack import process as processes
from stack.paths import ROOT
from stack.process import Process
from stack.servers import ObjectStore, Postgres, Prometheus, Redis
from stack.wait import wait_for


def test_postgres_has_pgvector_and_survives_a_kill(tmp_path: Path) -> None:
    with Postgres(tmp_path / "pg", durable=True) as server:
        with psycopg.connect(server.url) as connection:
            connection.execute("CREATE EXTENSION vector")
            connection.execute("CREATE TABLE t AS SELECT '[1,2]'::vector AS v")
        server.kill()
        server.start()
        with psycopg.connect(server.url) as connection:
            assert connection.execute("SELECT v::text FROM t").fetchone() == ("[1,2]",)


def test_redis_keeps_its_port_over_a_restart(tmp_path: Path) -> None:
    with Redis(tmp_path / "redis") as server:
        port = server.port
        server.kill()
        server.start()
        assert server.port == port
        assert redis.Redis.from_url(server.url).ping()


def test_the_object_store_speaks_s3(object_store: ObjectStore) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=object_store.endpoint,
        aws_access_key_id=object_store.access_key,
        aws_secret_access_key=object_store.secret_key,
        region_name="us-east-1",
        config=Config(request_checksum_calculation="when_required"),
    )
    client.put_object(Bucket=object_store.bucket("bucket"), Key="a/b", Body=b"hello")
    assert (object_store.objects / "bucket/a/b").read_bytes() == b"hello"


def test_a_server_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    with pytest.raises(OpsError, match="redis ended at once"):
        Redis(tmp_path / "r", port=ports.choose(), options={"no-such-option": "1"}).start()


def test_prometheus_serves_its_own_pages(tmp_path: Path) -> None:
    """With everything that they load, which Debian's package expects in folders that do not exist here."""
    config = tmp_path / "prometheus.yml"
    config.write_text("global: {}\n")
    with Prometheus(tmp_path / "prometheus", config=config) as server, session() as client:
        page = client.get(server.browser_url, timeout=10)
        assert page.status_code == 200, page.text
        assert "Alerts" in page.text
        loaded = re.findall(r'(?:src|href)="(/[^"]+\.(?:js|css)\b[^"]*)"', page.text)
        assert loaded, page.text
        statuses = {path: client.get(f"{server.url}{path}", timeout=10).status_code for path in loaded}
    assert {path: status for path, status in statuses.items() if status != 200} == {}


def test_a_taken_port_is_avoided(redis_server: Redis) -> None:
    assert ports.choose(redis_server.port) != redis_server.port


def test_usual_ports_are_reserved_for_the_first_stack() -> None:
    wanted = ports.choose()
    asked = "import sys; from stack import ports; print(ports.choose(int(sys.argv[1])))"
    assert ports.choose(wanted) == wanted  # nobody listens on it yet
    other = subprocess.run(
        [sys.executable, "-c", asked, str(wanted)], capture_output=True, text=True, cwd=ROOT
    )
    assert int(other.stdout) != wanted


def test_another_server_on_its_port_is_not_mistaken_for_it(redis_server: Redis, tmp_path: Path) -> None:
    with pytest.raises(OpsError, match="redis ended at once"):
        Redis(tmp_path / "r", port=redis_server.port).start()


def test_children_do_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    program = (
        "import sys, time, os; from pathlib import Path; from stack.process import Process\n"
        "p = Process('sleep', ['sleep', '600'], log=Path(sys.argv[1]), env=os.environ)\n"
        "print(p.pid, flush=True); time.sleep(600)"
    )
    supervisor = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "log")], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert supervisor.stdout is not None
    child = int(supervisor.stdout.readline())
    os.kill(supervisor.pid, signal.SIGKILL)
    supervisor.wait()
    wait_for(lambda: not alive(child), timeout=150, what="the child ending", hint="see stack/reaper.py")


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    # A zombie waits for init to reap it, and is no longer running.
    return state != "Z"


def test_waiting_gives_up_with_a_hint() -> None:
    began = time.monotonic()
    with pytest.raises(OpsError, match=r"the moon did not happen within 0.2 s"):
        wait_for(lambda: False, timeout=0.2, what="the moon", hint="look up")
    assert time.monotonic() - began < 2


HIDDEN = """
import ctypes, socket, sys, time
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # as the backup sidecar does: nothing about it is readable in /proc
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
time.sleep(600)
"""
OBSERVER = f"""
import sys, time
from pathlib import Path
from stack import ports
from stack.process import Process
port, free = ports.choose(), ports.choose()
process = Process("hidden", [sys.executable, "-c", {HIDDEN!r}, str(port)], log=Path(sys.argv[1]) / "log", env={{}}, cwd=Path("/"))
end = time.monotonic() + 60
while not process.listens_on(port):
    assert time.monotonic() < end, process.log_tail()
    time.sleep(0.05)
assert not process.listens_on(free)
process.stop()
"""


def test_the_port_of_a_process_that_hides_itself_is_found_by_an_ordinary_user(tmp_path: Path) -> None:
    """Root sees everything, so as root this runs as nobody."""
    tmp_path.chmod(0o777)
    user: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    options: dict[str, Any] = {
        "capture_output": True,
        "text": True,
        "env": {"PYTHONPATH": str(ROOT)},
        "cwd": "/",
        **user,
    }
    try:
        possible = subprocess.run([sys.executable, "-c", "import stack.process"], **options).returncode == 0
    except PermissionError:
        possible = False
    if not possible:
        pytest.skip("nobody may not read this checkout")
    done = subprocess.run([sys.executable, "-c", OBSERVER, str(tmp_path)], **options)
    assert done.returncode == 0, done.stderr


def test_hidden_sockets_count_only_where_one_is_hidden(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def sockets(owner: int | None) -> list[Any]:
        return [SimpleNamespace(status=psutil.CONN_LISTEN, laddr=SimpleNamespace(port=4711), pid=owner)]

    child = Process("sleep", ["sleep", "60"], log=tmp_path / "log", env={}, cwd=tmp_path)
    try:
        for listening, owner, found in (
            (None, None, True),
            (None, 1, False),
            (set(), None, False),
            ({4711}, 1, True),
        ):
            monkeypatch.setattr(processes, "_listening", lambda _, ports=listening: ports)
            monkeypatch.setattr(psutil, "net_connections", lambda _, owner=owner: sockets(owner))
            assert child.listens_on(4711) is found
            assert not child.listens_on(4712)
    finally:
        child.stop()


def test_a_thread_may_stop_a_child_while_the_program_ends() -> None:
    """The demo's build of the frontend printed a traceback."""
    script = """
import subprocess, threading
from stack import process

child = subprocess.Popen(["sleep", "60"], start_new_session=True)
process._REAPER.watch(child.pid)
waiting = threading.Thread(target=child.wait)
waiting.start()
process._REAPER.close()
process._REAPER.forget(child.pid)
waiting.join(10)
print(child.returncode)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout == "-15\n"
