"""What `cargo xtask e2e backends --only s3` asks a store for, through AWS' own client.

usage: s3_client.py ENDPOINT KEY SECRET BUCKET MAKE [lock] | READ FOLDER | LOCK
"""

import os
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

endpoint, key, secret, bucket, action, *rest = sys.argv[1:]
client = boto3.client(
    "s3",
    endpoint_url=endpoint,
    aws_access_key_id=key,
    aws_secret_access_key=secret,
    region_name="us-east-1",
    config=Config(s3={"addressing_style": "path"}, signature_version="s3v4"),
)


def keys():
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page.get("Contents", []):
            yield item["Key"]


if action == "MAKE":
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket="lock" in rest)
elif action == "READ":
    for number, name in enumerate(keys()):
        if not name.startswith("kubernetes/audit/cluster=test/date="):
            sys.exit(f"an odd key: {name}")
        body = client.get_object(Bucket=bucket, Key=name)["Body"].read()
        with open(os.path.join(rest[0], f"{number}-{os.path.basename(name)}"), "wb") as file:
            file.write(body)
elif action == "LOCK":
    # Every object has its retention, and none of the versions can be deleted.
    count = 0
    for name in keys():
        head = client.head_object(Bucket=bucket, Key=name)
        if head.get("ObjectLockMode") != "COMPLIANCE" or "ObjectLockRetainUntilDate" not in head:
            sys.exit(f"not locked: {name}")
        try:
            client.delete_object(Bucket=bucket, Key=name, VersionId=head["VersionId"])
            sys.exit(f"it could be deleted: {name}")
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 403:
                raise
        count += 1
    print(f"{count} objects are locked, and none can be deleted")
