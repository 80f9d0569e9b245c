"""The style of all figures, and the conversion of a matplotlib figure to SVG.

In the SVG, each colour of `VARIABLES` is a CSS variable with the light-mode colour as fallback. So one figure serves light mode,
dark mode and print. Text is not converted to outlines, and has the page's font.
"""

import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from reports import words

INK, MUTED, LINE, SURFACE = "#1b1f24", "#59626e", "#d3d9e0", "#fefefe"
# The colours of Okabe and Ito, some darker for a contrast of 4.5:1.
BLUE, VERMILLION, GREEN, PURPLE = "#0072b2", "#bd4b00", "#00805f", "#a0508a"
_NAMES = ("ink", "muted", "line", "surface", "blue", "vermillion", "green", "purple")
_LIGHT = (INK, MUTED, LINE, SURFACE, BLUE, VERMILLION, GREEN, PURPLE)
VARIABLES: Mapping[str, str] = {colour: f"--{name}" for colour, name in zip(_LIGHT, _NAMES, strict=True)}
_COLOURS = re.compile("|".join(VARIABLES))
_IDS = re.compile(r'( id="|url\(#| href="#)([^")]+)')
# Patterns of a mark or text on a line of its own, and of another one with the same style.
_SHAPE = tuple(
    rf'<(?:use|path|text)(?: [^<>]*?)? style="{look}"[^<>]*?(?:/>|>[^<>]*</text>)\n'
    for look in (r'(?P<look>[^"]*)', "(?P=look)")
)
_SETTINGS: dict[Any, Any] = {  # matplotlib types the keys as one very long Literal
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "text.parse_math": False,
    "text.color": INK,
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), LINE),
    **dict.fromkeys(("axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), MUTED),
    **dict.fromkeys(("axes.facecolor", "figure.facecolor"), "none"),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 1.0,
    "axes.unicode_minus": True,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.8,
    "path.simplify": False,
}


def style() -> AbstractContextManager[None]:
    """Return a context manager that sets the matplotlib style of all figures."""
    return mpl.rc_context(_SETTINGS)


class Picture(NamedTuple):
    """A figure as SVG, and its caption. The SVG contains the start of the caption as alternative text."""

    svg: Markup
    caption: str
    name: str  # all ids in the SVG start with it
    title: str
    figure: Figure


def picture(figure: Figure, name: str, title: str, caption: str) -> Picture:
    """Convert a figure to a picture of the page. All ids in the SVG start with `name`."""
    title = words.clean(title)
    return Picture(Markup(to_svg(figure, name, title, words.clean(caption, 600))), caption, name, title, figure)


@contextmanager
def drawn(name: str, **settings: Any) -> Iterator[None]:
    """Set the style of all figures while one is written. The ids in an SVG depend on `name`; `settings` are matplotlib's."""
    chosen: dict[Any, Any] = {"svg.hashsalt": name, **settings}
    with style(), mpl.rc_context(chosen), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the browser has other fonts
        yield


def to_svg(figure: Figure, name: str, title: str, description: str) -> str:
    """Convert a figure to an `<svg>` element. Equal figures give equal text, and all ids start with `name`."""
    buffer = io.StringIO()
    with drawn(name):
        FigureCanvasSVG(figure)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", text, flags=re.S)
    text = re.sub(rf"{_SHAPE[0]}(?:{_SHAPE[1]})+", _together, _flat(text, f"{name}-"))
    text = re.sub(r'(<[^<>]*?) style="([^"]*)"', _as_attributes, text)
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    width, height = (float(number) for number in box.groups()) if box else (0.0, 0.0)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" role="img" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(description)}</desc>'
    )
    return head + text[text.index(">") + 1 :].strip()


def _flat(text: str, prefix: str) -> str:
    """Remove indentation, empty groups, and tags of groups without attributes. Rewrite other tags. Keep text between tags."""
    parts, is_kept, ids = [], [True], dict[str, int]()
    for part in re.split(r"(<[^<>]+>)", text):
        if part.startswith("<g ") and part.endswith("/>"):
            continue
        if part.startswith(("<g ", "<g>")):
            tag = _tag(part, prefix, ids)
            is_kept.append(tag != "<g>")
            parts.append(tag if is_kept[-1] else "")
        elif part == "</g>":
            parts.append(part if is_kept.pop() else "")
        else:
            parts.append(_tag(part, prefix, ids) if part.startswith("<") else part)
    return re.sub(r"\n\s*", "\n", "".join(parts))


def _tag(text: str, prefix: str, ids: dict[str, int]) -> str:
    """Rewrite one tag: short ids with a prefix, no ids of groups, no font family, short numbers, and colours as CSS variables."""
    text = re.sub(r'^<g id="[^"]*"', "<g", text)  # nothing refers to groups
    text = text.replace(" xlink:href=", " href=")
    text = _IDS.sub(lambda found: f"{found[1]}{prefix}{ids.setdefault(found[2], len(ids) + 1)}", text)
    text = re.sub(r"font: ((?:\d+ )?)([\d.]+px) [^;\"]*", _font, text)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    text = re.sub(r' transform="rotate\(-?0 [^)]*\)"', "", text)
    text = re.sub(r' d="([^"]*)"', _path, text)
    text = re.sub(r' (?:x|y|transform)="[^"]*"', lambda found: _shorter(found[0], 1), text)
    return _COLOURS.sub(lambda found: f"var({VARIABLES[found[0]]},{found[0]})", text)


def _path(match: re.Match[str]) -> str:
    """Shorten a path: write horizontal and vertical lines as H and V, and cut coordinates to 1 decimal (curves: 2 decimals)."""
    steps = re.findall(r"([A-Za-z])([^A-Za-z]*)", _shorter(match[1], 2 if "C" in match[1] else 1))
    parts, at = [], ["", ""]
    for letter, numbers in steps:
        values = numbers.split()
        if letter == "L" and values[1] == at[1]:
            parts.append("H" + values[0])
        elif letter == "L" and values[0] == at[0]:
            parts.append("V" + values[1])
        else:
            parts.append(letter + " ".join(values))
        at = values[-2:] or at
    return f' d="{"".join(parts)}"'


def _shorter(text: str, digits_n: int) -> str:
    return re.sub(r"\.(\d+)", lambda found: ("." + found[1][:digits_n]).rstrip("0").rstrip("."), text)


def _together(match: re.Match[str]) -> str:
    """Move the common style of consecutive shapes to a group. This halves the size of the SVG of a scatter plot."""
    return f'<g style="{match["look"]}">\n' + match[0].replace(f' style="{match["look"]}"', "") + "</g>\n"


def _as_attributes(match: re.Match[str]) -> str:
    """Write the style as SVG attributes, because the page's policy forbids inline styles (`style="…"`)."""
    pairs = (part.split(":", 1) for part in match[2].split(";") if part.strip())
    return match[1] + "".join(f' {name.strip()}="{value.strip()}"' for name, value in pairs)


def _font(match: re.Match[str]) -> str:
    weight = f"font-weight: {match[1].strip()}; " if match[1] else ""
    return f"{weight}font-size: {match[2]}"
