"""A fixture for tests that read the text of a page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reports import svg

EMPTY = '<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="{0}-title"><title id="{0}-title">none</title></svg>'


@pytest.fixture(scope="module")
def without_pictures() -> Iterator[None]:
    """Draw an empty picture in place of each figure, because figures take half of the second in which a page is made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(svg, "to_svg", lambda figure, name, *_: EMPTY.format(name))
        yield
