#!/bin/sh
# moto 5.2.5 (server): GetObjectRetention returns the content of the object, because moto implements only the request that
# sets a retention. boto3 cannot parse the content and reports an internal server error (500). The lock is set: HeadObject
# returns it.
#
# Seen on 2026-11-29 with Python 3.11 and boto3 1.44.8: HeadObject: GOVERNANCE    GetObjectRetention: 500
#
# Usage: findings/moto-answers-retention-with-the-object.sh     (Python 3.11 or newer as python3; exit 1 if this has changed)
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
from botocore.exceptions import ClientError
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
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )
    store.create_bucket(Bucket="bucket", ObjectLockEnabledForBucket=True)
    lock = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": datetime.now(UTC) + timedelta(days=1)}

    store.put_object(Bucket="bucket", Key="object", Body=b"x", **lock)
    shown = store.head_object(Bucket="bucket", Key="object").get("ObjectLockMode")
    try:
        answer = store.get_object_retention(Bucket="bucket", Key="object")["Retention"]["Mode"]
    except ClientError as error:
        answer = error.response["Error"]["Code"]
    print(f"HeadObject: {shown}    GetObjectRetention: {answer}")
finally:
    server.stop()
if (shown, answer) != ("GOVERNANCE", "500"):
    sys.exit("changed: expected HeadObject to return a lock, and GetObjectRetention to fail")
PYTHON
