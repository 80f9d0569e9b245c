"""Fixtures that several slow tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.s3 import moto


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start an S3 server on loopback for all slow tests. Each test uses its own folder in the bucket."""
    with moto(tmp_path_factory.mktemp("s3") / "moto.log") as url:
        yield url
