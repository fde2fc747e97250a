"""An S3 service on the loopback, for tests: the real protocol, in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@contextmanager
def served() -> Iterator[str]:
    """The service; its URL."""
    s3fs = pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()
        s3fs.S3FileSystem.clear_instance_cache()  # which knows the service by its address


@contextmanager
def bucket(endpoint: str, name: str) -> Iterator[Any]:
    """An empty bucket of that service, gone afterwards; the credentials are in the environment."""
    import boto3

    made = boto3.resource("s3", endpoint_url=endpoint).create_bucket(Bucket=name)
    try:
        yield made
    finally:
        made.objects.all().delete()
        made.delete()
