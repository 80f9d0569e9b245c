"""Pages with a part that a program writes. The part is between two comments; people write the rest."""

from pathlib import Path


def marks(name: str) -> tuple[str, str]:
    """Return the comments before and after a part."""
    return f"<!-- begin: {name} -->", f"<!-- end: {name} -->"


def marked(text: str, name: str) -> str:
    """Return the part of a page between its marks. Raise ValueError unless each mark occurs once, in order."""
    begin, end = marks(name)
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"expected {begin} and then {end}, once each.")
    return text.split(begin)[1].split(end)[0].strip()


def replace_marked(path: Path, name: str, body: str) -> None:
    """Replace a part, and keep the text around it."""
    text = path.read_text(encoding="utf-8")
    marked(text, name)
    begin, end = marks(name)
    before, after = text.split(begin)[0], text.split(end)[1]
    path.write_text(f"{before}{begin}\n\n{body.strip()}\n\n{end}{after}", encoding="utf-8")
