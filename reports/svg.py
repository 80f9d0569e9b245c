"""The look of all figures, and a matplotlib figure as SVG that can stand inside a page.

Colours are drawn as their light-mode values and then replaced by CSS variables with that value as fallback, so that one
picture serves light, dark and print. Text stays text and takes the page's font.
"""

import io
import re
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any
from xml.sax.saxutils import escape

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK, MUTED, LINE, SURFACE = "#1b1f24", "#59626e", "#d3d9e0", "#fefefe"
BLUE, VERMILLION, GREEN, PURPLE = (
    "#0072b2",
    "#bd4b00",
    "#00805f",
    "#a8578f",
)  # Okabe–Ito's hues, a shade darker where needed for 4.5:1
VARIABLES: Mapping[str, str] = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    SURFACE: "--surface",
    BLUE: "--blue",
    VERMILLION: "--vermillion",
    GREEN: "--green",
    PURPLE: "--purple",
}
_COLOURS = re.compile("|".join(VARIABLES))
_SETTINGS: dict[Any, Any] = {  # matplotlib types the keys as one very long Literal
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 1.0,
    "axes.unicode_minus": True,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.8,
    "path.simplify": False,
}


def style() -> AbstractContextManager[None]:
    """Settings for drawing, undone on leaving."""
    return mpl.rc_context(_SETTINGS)


def to_svg(figure: Figure, name: str, title: str, description: str) -> str:
    """The figure as an `<svg>` element: same input, same bytes; ids begin with `name`.

    Title and description stand inside for those who cannot see it.
    """
    buffer = io.StringIO()
    with style(), mpl.rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the reader's browser has other fonts
        FigureCanvasSVG(figure)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", text, flags=re.S)
    # Only inside tags: a task may be called `id="x"` or `#1b1f24`, and matplotlib escapes < and > everywhere else.
    text = re.sub(r"<[^<>]+>", partial(_tag, f"{name}-"), text)
    text = re.sub(r"\n\s*", "\n", text)
    text = re.sub(r'(?:<use [^>]*? style="([^"]*)"/>\n)(?:<use [^>]*? style="\1"/>\n)+', _together, text)
    text = re.sub(r'(<[^<>]*?) style="([^"]*)"', _as_attributes, text)
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    width, height = (float(number) for number in box.groups()) if box else (0.0, 0.0)
    head = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" role="img" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(description)}</desc>'
    )
    return head + text[text.index(">") + 1 :].strip()


def _tag(prefix: str, match: re.Match[str]) -> str:
    """One tag: ids with the picture's prefix, the page's font, shorter numbers, colours that follow the page's ground."""
    text = match[0]
    if text.startswith("<g id="):
        text = re.sub(r'^<g id="[^"]*"', "<g", text)  # nothing refers to groups
    text = text.replace(' id="', f' id="{prefix}').replace("url(#", f"url(#{prefix}").replace('href="#', f'href="#{prefix}')
    text = re.sub(r"font: ((?:\d+ )?)([\d.]+px) [^;\"]*", _font, text)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    text = re.sub(r' transform="rotate\(-?0 [^)]*\)"', "", text)
    text = re.sub(r'\b(?:d|x|y|transform)="[^"]*"', _shorter, text, flags=re.S)
    return _COLOURS.sub(lambda found: f"var({VARIABLES[found[0]]},{found[0]})", text)


def _shorter(match: re.Match[str]) -> str:
    """Coordinates with two decimals: a hundredth of a pixel, and a third of the file less."""
    return re.sub(r"(\.\d\d)\d+", r"\1", match[0])


def _together(match: re.Match[str]) -> str:
    """Marks of one look in a row: the look is written once, which halves a scatter."""
    return f'<g style="{match[1]}">\n' + match[0].replace(f' style="{match[1]}"', "") + "</g>\n"


def _as_attributes(match: re.Match[str]) -> str:
    """The look as attributes of SVG: a page whose policy forbids inline styles would drop `style="…"`."""
    pairs = (part.split(":", 1) for part in match[2].split(";") if part.strip())
    return match[1] + "".join(f' {name.strip()}="{value.strip()}"' for name, value in pairs)


def _font(match: re.Match[str]) -> str:
    weight = f"font-weight: {match[1].strip()}; " if match[1] else ""
    return f"{weight}font-size: {match[2]}"
