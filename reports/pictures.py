"""Figures as SVG with their captions."""

from typing import NamedTuple

from markupsafe import Markup
from matplotlib.figure import Figure

from reports import svg, words


class Picture(NamedTuple):
    """A figure as SVG, and its caption. The SVG contains the caption as alternative text."""

    svg: Markup
    caption: str


def picture(figure: Figure, name: str, title: str, caption: str) -> Picture:
    """Convert a figure to SVG. All ids in it start with `name`."""
    return Picture(Markup(svg.to_svg(figure, name, words.clean(title), words.clean(caption, 600))), caption)
