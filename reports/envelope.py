"""The page's frame: the template environment, the style, the script, and the policy that allows only these two.

It keeps the page closed: everything is escaped, nothing is fetched, no foreign script runs. The content is in `page`.
"""

import base64
import hashlib
from importlib import resources
from typing import NamedTuple

import jinja2
from markupsafe import Markup

from reports import words


class Envelope(NamedTuple):
    """Text that goes into the page unescaped, and the content-security policy with its hashes."""

    style: Markup
    script: Markup
    policy: str


def envelope() -> Envelope:
    """Return the page's own style and script, with their policy.

    The policy allows no request, and only these two by their hashes. `unsafe-inline` is not needed, because figures carry their
    style as SVG attributes (`fill="…"`), not as `style="…"`.
    """
    folder = resources.files("reports") / "templates"
    style, script = ((folder / name).read_text(encoding="utf-8").strip() for name in ("style.css", "report.js"))
    policy = f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; base-uri 'none'; form-action 'none'"
    return Envelope(Markup(style), Markup(script), policy)


def environment() -> jinja2.Environment:
    """Return a Jinja2 environment that escapes everything, requires every name, and drops characters that a page cannot hold."""
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
    """Return text without the characters that XML or UTF-8 rejects; a second guard behind `words.clean`.

    >>> printable("a\\x00b\\nc\\ud800")
    'a\ufffdb\\nc\ufffd'
    """
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return "".join("\ufffd" if _is_refused(letter) else letter for letter in value)


def _is_refused(letter: str) -> bool:
    code = ord(letter)
    is_control = code < 0x20 and letter not in "\t\n"
    return is_control or 0x7F <= code < 0xA0 or 0xD800 <= code < 0xE000 or code & 0xFFFE == 0xFFFE


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
