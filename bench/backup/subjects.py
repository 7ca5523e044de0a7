"""The subjects: ours, two common methods, and two limits that no backup of this kind can beat."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import commands
from sidecar import OpsError

# What scripts usually do: pass the stream to the SDK, which treats its end as success.
UPLOAD = """
import os, sys, boto3
client = boto3.client("s3", endpoint_url=os.environ["BACKUP_S3_ENDPOINT_URL"], region_name="us-east-1",
    aws_access_key_id=os.environ["BACKUP_S3_ACCESS_KEY_ID"],
    aws_secret_access_key=os.environ["BACKUP_S3_SECRET_ACCESS_KEY"])
source = sys.stdin.buffer if sys.argv[1] == "-" else open(sys.argv[1], "rb")
client.upload_fileobj(source, sys.argv[2], sys.argv[3])
print(client.head_object(Bucket=sys.argv[2], Key=sys.argv[3])["ContentLength"])
"""
CHUNK = 1 << 20


@dataclass(frozen=True)
class Measured:
    """One run."""

    seconds: float
    stored: int | None = None
    rss: int | None = None
    raw: int | None = None
    stages: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Bench:
    """Paths and environment of a benchmark. ``env`` names database and store."""

    url: str
    bin: Path
    zstd: Path
    bucket: str
    folder: Path
    env: Mapping[str, str]

    def dump_limit(self) -> Measured:
        """(a) The dump alone, discarded."""
        return self._piped([self._dump("--format=custom", "--compress=0")])

    def stream_limit(self) -> Measured:
        """(a2) The dump through zstd on all cores, discarded."""
        return self._piped(
            [self._dump("--format=custom", "--compress=0"), [str(self.zstd), "-3", "-T0", "-q"]]
        )

    def gzip_upload(self) -> Measured:
        """(b) ``pg_dump | gzip | upload``."""
        upload = [sys.executable, "-c", UPLOAD, "-", self.bucket, "peers/dump.sql.gz"]
        return self._piped([self._dump("--format=plain"), ["gzip", "-c"], upload], printed=True)

    def file_upload(self) -> Measured:
        """(c) ``pg_dump -Fc`` into a file, then an upload."""
        file = self.folder / "dump.custom"
        begin = time.monotonic()
        self._piped([self._dump("--format=custom", f"--file={file}")])
        upload = [sys.executable, "-c", UPLOAD, str(file), self.bucket, "peers/dump.custom"]
        uploaded = self._piped([upload], printed=True)
        seconds = time.monotonic() - begin
        file.unlink()
        return Measured(seconds, uploaded.stored)

    def ours(self) -> Measured:
        """The whole run: start, preflight, snapshot counts, hashing, encryption, upload, manifest."""
        begin = time.monotonic()
        facts, peak = commands.backup(("run",), self.env)
        seconds = time.monotonic() - begin
        return Measured(seconds, facts["stored_bytes"], peak, facts["raw_bytes"], facts["stages"])

    def _dump(self, *options: str) -> list[str]:
        return [str(self.bin / "pg_dump"), *options, f"--dbname={self.url}"]

    def _piped(self, commands: Sequence[Sequence[str]], *, printed: bool = False) -> Measured:
        """Programs connected by pipes; the output of the last one is counted, or read as a number."""
        begin = time.monotonic()
        processes: list[subprocess.Popen[bytes]] = []
        for command in commands:
            source = processes[-1].stdout if processes else subprocess.DEVNULL
            processes.append(
                subprocess.Popen(list(command), stdin=source, stdout=subprocess.PIPE, env=dict(self.env))
            )
            if processes[-2:-1]:
                before = processes[-2].stdout
                assert before is not None
                before.close()
        out = processes[-1].stdout
        assert out is not None
        stored = int(out.read() or 0) if printed else _drain(out.fileno())
        if any(process.wait() for process in processes):
            raise OpsError(f"{commands[0][0]} or what it is piped into failed", hint="read what it printed")
        return Measured(time.monotonic() - begin, stored)


def _drain(handle: int) -> int:
    """Read to the end and count the bytes, as fast as possible."""
    total = 0
    buffer = bytearray(CHUNK)
    while count := os.readv(handle, [buffer]):
        total += count
    return total
