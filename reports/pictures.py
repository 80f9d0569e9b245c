"""A figure with its caption, ready to stand in the page."""

from typing import NamedTuple

from markupsafe import Markup
from matplotlib.figure import Figure

from reports import svg, words


class Picture(NamedTuple):
    """A drawing and the sentence under it, which is also its description for those who cannot see it."""

    svg: Markup
    caption: str


def picture(figure: Figure, name: str, title: str, caption: str) -> Picture:
    """The figure as SVG; `name` begins its ids."""
    return Picture(Markup(svg.to_svg(figure, name, words.clean(title), words.clean(caption, 600))), caption)
