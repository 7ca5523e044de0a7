"""An S3 server: rclone serves a local folder in which each object is a file."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import requests
from botocore.config import Config

from sidecar.http import session
from stack.ports import HOST
from stack.programs import find
from stack.servers.base import Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class ObjectStore(Server):
    """A persistent S3 endpoint; buckets are folders, objects are files below :attr:`objects`."""

    name = "s3"
    access_key = "embedded-access-key"
    secret_key = "embedded-secret-key"  # noqa: S105 - a throwaway server on the loopback address

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def endpoint(self) -> str:
        return self.url

    @property
    def objects(self) -> Path:
        return self.folder / "objects"

    def bucket(self, name: str) -> str:
        """Create a bucket if it is missing; returns its name."""
        if self.running:
            # Through its API: it caches the list of folders for minutes.
            client = self.client()
            with suppress(client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou):
                client.create_bucket(Bucket=name)
        else:
            (self.objects / name).mkdir(parents=True, exist_ok=True)
        return name

    def client(self) -> "S3Client":
        """A client with the server's keys."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(request_checksum_calculation="when_required", proxies={}),
        )

    def prepare(self) -> None:
        self.objects.mkdir(exist_ok=True)

    def command(self) -> Sequence[str]:
        return [
            str(find("rclone")),
            "serve",
            "s3",
            "--addr",
            f"{HOST}:{self.port}",
            "--cache-dir",
            str(self.folder / "cache"),
            str(self.objects),
        ]

    def environment(self) -> Mapping[str, str]:
        # The key (a list of pairs, as CSV) goes through the environment, not argv. The user's configuration is not read.
        return {
            **os.environ,
            "RCLONE_AUTH_KEY": f'"{self.access_key},{self.secret_key}"',
            "RCLONE_CONFIG": str(self.folder / "rclone.conf"),
        }

    def is_ready(self) -> bool:
        try:
            # It refuses requests without credentials, which proves that it runs.
            with session() as client:
                return client.get(self.url, timeout=2).status_code < 500
        except requests.RequestException:
            return False
