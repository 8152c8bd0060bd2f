"""Moto's S3 server with one bucket; prints its address and a key that may read it, as JSON, and ends with its input.

python serve.py <directory of the bucket's content> signed|anonymous
"""

import json
import sys
from pathlib import Path

import boto3  # type: ignore[import-not-found]
from moto import settings  # type: ignore[import-not-found]
from moto.server import ThreadedMotoServer  # type: ignore[import-not-found]

REGION = "us-east-1"
BUCKET = "models"
MAY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]}


def main(content: Path, kind: str) -> None:
    """Serve until there is no more input."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    anybody = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": REGION, "endpoint_url": url}
    s3, iam = boto3.client("s3", **anybody), boto3.client("iam", **anybody)
    acl = "private" if kind == "signed" else "public-read"
    s3.create_bucket(Bucket=BUCKET)
    for path in sorted(each for each in content.rglob("*") if each.is_file()):
        s3.put_object(Bucket=BUCKET, Key=str(path.relative_to(content)), Body=path.read_bytes(), ACL=acl)
    iam.create_user(UserName="fetch")
    iam.put_user_policy(UserName="fetch", PolicyName="read", PolicyDocument=json.dumps(MAY))
    key = iam.create_access_key(UserName="fetch")["AccessKey"]
    if kind == "signed":
        settings.INITIAL_NO_AUTH_ACTION_COUNT = 0  # From now on every request proves who asks, by botocore's reckoning.
    print(json.dumps({"url": url, "key_id": key["AccessKeyId"], "secret": key["SecretAccessKey"]}), flush=True)
    sys.stdin.read()
    server.stop()


main(Path(sys.argv[1]), sys.argv[2])
