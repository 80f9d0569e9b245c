"""The template environment, the style, the script and the content-security policy of the page.

They keep the page safe: text is escaped, the browser fetches nothing, and only the page's own script runs.
"""

import base64
import hashlib
import re
from functools import cache
from importlib import resources
from typing import NamedTuple

import jinja2
from markupsafe import Markup

from reports import words

SCRIPTS = (
    "report.js",
    "take_away.js",
)  # joined to one script; every file but the first is a block with names of its own
_NONCHARACTERS = "".join(chr(plane + end) for plane in range(0, 0x110000, 0x10000) for end in (0xFFFE, 0xFFFF))
_REFUSED = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff{_NONCHARACTERS}]")


class Envelope(NamedTuple):
    """The page's style and script, which are not escaped, and a content-security policy with the hashes of style and script."""

    style: Markup
    script: Markup
    policy: str


def envelope(*parts: str) -> Envelope:
    """Return the page's style and script with a content-security policy.

    Each of `parts` names a file of style and a file of script that only some pages have, such as "items" for items.css and
    items.js. The policy blocks all requests, and allows only this style and this script by their hashes. So figures must set
    their style in SVG attributes (`fill="…"`), not in `style="…"`.
    """
    folder = resources.files("reports") / "templates"
    files = ("style.css", *(f"{part}.css" for part in parts)), (*SCRIPTS, *(f"{part}.js" for part in parts))
    style, script = ("\n".join((folder / name).read_text("utf-8").strip() for name in names) for names in files)
    policy = f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; base-uri 'none'; form-action 'none'"
    return Envelope(Markup(style), Markup(script), policy)


@cache
def environment() -> jinja2.Environment:
    """Return a Jinja2 environment that escapes text, replaces invalid characters, and raises an error for undefined names."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("reports"),
        autoescape=True,
        finalize=printable,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"clean": words.clean, "tail": words.tail}
    made.globals["envelope"] = envelope()
    return made


def printable(value: object) -> object:
    """Replace control characters (not tab and line feed), surrogates and noncharacters by U+FFFD. Keep `Markup` and other types.

    >>> printable("a\\x00b\\nc\\ud800")
    'a\ufffdb\\nc\ufffd'
    """
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return _REFUSED.sub("\ufffd", value)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
