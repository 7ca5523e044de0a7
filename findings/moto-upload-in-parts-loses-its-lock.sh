#!/bin/sh
# moto 5.2.5 (server): a retention lock (Object Lock) requested for a multipart upload is accepted but never set. The same
# lock on an object that is put in one request is set. S3 sets both. Tests against moto miss a lock that exists on S3.
#
# Seen on 2026-11-29 with Python 3.11 and boto3 1.44.8: put: GOVERNANCE    multipart: None
#
# Usage: findings/moto-upload-in-parts-loses-its-lock.sh     (Python 3.11 or newer as python3; exit 1 if this has changed)
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install 'moto[server]==5.2.5' boto3==1.44.8 botocore==1.44.8
"$folder/venv/bin/python" - <<'PYTHON'
import logging
import sys
from datetime import UTC, datetime, timedelta

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
try:
    store = boto3.client(
        "s3",
        endpoint_url="http://{}:{}".format(*server.get_host_and_port()),
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret-key",
        config=Config(s3={"addressing_style": "path"}),
    )
    store.create_bucket(Bucket="bucket", ObjectLockEnabledForBucket=True)
    lock = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": datetime.now(UTC) + timedelta(days=1)}

    def retention(key):
        return store.head_object(Bucket="bucket", Key=key).get("ObjectLockMode")

    store.put_object(Bucket="bucket", Key="once", Body=b"x", **lock)
    upload = store.create_multipart_upload(Bucket="bucket", Key="parts", **lock)["UploadId"]
    part = store.upload_part(Bucket="bucket", Key="parts", UploadId=upload, PartNumber=1, Body=b"x")
    store.complete_multipart_upload(
        Bucket="bucket",
        Key="parts",
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )
    once, parts = retention("once"), retention("parts")
    print(f"put: {once}    multipart: {parts}")
finally:
    server.stop()
if (once, parts) != ("GOVERNANCE", None):
    sys.exit("changed: expected a lock on the object that was put in one request, and none on the other")
PYTHON
