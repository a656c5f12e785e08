"""An S3-compatible server on this machine, with an empty bucket."""

from contextlib import contextmanager

import httpx
import pytest

NAME = "callhouse"


@contextmanager
def bucket(monkeypatch):
    """The URL of a new bucket; the AWS_ variables point to its server meanwhile."""
    module = pytest.importorskip("moto.server", reason="waits for moto: pip install '.[dev-all]'")
    server = module.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ACCESS_KEY_ID": "anything",
            "AWS_SECRET_ACCESS_KEY": "anything",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        }.items():
            monkeypatch.setenv(name, value)
        httpx.post(f"http://{host}:{port}/moto-api/reset")
        httpx.put(f"http://{host}:{port}/{NAME}").raise_for_status()
        yield f"s3://{NAME}/of/calls"
    finally:
        server.stop()
