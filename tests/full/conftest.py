"""What several files of the slow tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.s3 import moto


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3 server on loopback; tests use folders of their own in its bucket."""
    with moto(tmp_path_factory.mktemp("s3") / "moto.log") as url:
        yield url
