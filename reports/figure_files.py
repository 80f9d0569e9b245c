"""The page's figures as files for a paper: SVG and PNG with the page's light colours on white.

In the SVG, letters are outlines of DejaVu Sans, so that every program shows the same figure. A letter that this font lacks, such
as a Chinese one, becomes a box; in the page itself, the browser has other fonts.
"""

import io
from collections.abc import Iterator, Mapping
from typing import Any
from xml.sax.saxutils import escape

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG

from reports.svg import Picture, drawn
from reports.words import clean

DOTS_PER_INCH = 300
DESCRIPTION_LENGTH = 600  # characters of the caption in the SVG
GROUND = "white"
MARGIN: Mapping[str, Any] = {"bbox_inches": "tight", "pad_inches": 0.06}


def files(pictures: tuple[Picture, ...]) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of two files for each figure. Equal figures give equal bytes."""
    for one in pictures:
        yield f"{one.name}.svg", as_svg(one)
        yield f"{one.name}.png", as_png(one)


def captions(pictures: tuple[Picture, ...]) -> bytes:
    """Return the name, title and caption of each figure as text."""
    return "\n".join(f"{one.name}\n{one.title}. {one.caption}\n" for one in pictures).encode()


def as_svg(picture: Picture) -> bytes:
    made = io.StringIO()
    with drawn(picture.name, **{"svg.fonttype": "path"}):
        FigureCanvasSVG(picture.figure)
        picture.figure.savefig(made, format="svg", facecolor=GROUND, metadata={"Date": None}, **MARGIN)
    head, mark, rest = made.getvalue().partition("<metadata>")
    said = (
        f"<title>{escape(picture.title)}</title>\n <desc>{escape(clean(picture.caption, DESCRIPTION_LENGTH))}</desc>\n "
    )
    return f"{head}{said}{mark}{rest}".encode()


def as_png(picture: Picture) -> bytes:
    made = io.BytesIO()
    with drawn(picture.name):
        FigureCanvasAgg(picture.figure)
        picture.figure.savefig(
            made, format="png", dpi=DOTS_PER_INCH, facecolor=GROUND, metadata={"Software": None}, **MARGIN
        )
    return made.getvalue()
