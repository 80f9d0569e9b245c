"""A figure with its caption, ready for the page."""

from typing import NamedTuple

from markupsafe import Markup
from matplotlib.figure import Figure

from reports import svg, words


class Picture(NamedTuple):
    """A drawing and its caption, which is also its alternative text."""

    svg: Markup
    caption: str


def picture(figure: Figure, name: str, title: str, caption: str) -> Picture:
    """Return the figure as SVG with ids that begin with `name`."""
    return Picture(Markup(svg.to_svg(figure, name, words.clean(title), words.clean(caption, 600))), caption)
