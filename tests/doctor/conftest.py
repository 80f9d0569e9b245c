"""Servers on loopback for several modules of tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

import fsspec
import pytest

from tests.doctor.shared import Hub


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """Yield the URL of a bucket on moto's S3 server, which uses a free loopback port. The variables of the server are set."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    variables = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "AKIA0123456789",
        "AWS_SECRET_ACCESS_KEY": "aws-secret-0123456789",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    s3fs = fsspec.get_filesystem_class("s3")
    s3fs.clear_instance_cache()  # another module's instances know its server's address
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        fsspec.filesystem("s3").mkdir("bucket")
        yield variables["AWS_ENDPOINT_URL"]
        fsspec.filesystem("s3").rm("bucket", recursive=True)  # all of moto's servers in a process share what is stored
    s3fs.clear_instance_cache()
    server.stop()


@pytest.fixture(scope="module")
def hub_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
