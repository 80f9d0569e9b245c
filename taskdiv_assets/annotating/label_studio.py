"""Label Studio's side: tasks and a labelling configuration to import there, and how to read what it exports.

In and out: rows as plain values. Tried with Label Studio 1.23.2, whose own exports are kept with the tests. It exports JSON
(a task with its annotations), JSON-MIN and CSV (one row an annotation); all three carry our columns and the times.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from taskdiv_assets.annotating.columns import Names, folded_keys
from taskdiv_assets.annotating.layout import OWN_ID, TAKEN, Layout, Row, folded

RESPONSE = "response"
# A column of JSON-MIN and CSV that nobody else's files have.
MARK = "annotation_id"
TASK = '  <Header value="$task"/>\n'


def config(layout: Layout) -> str:
    """Return the labelling configuration.

    `maxSubmissions` keeps it at one answer a prompt, `editable` lets it be corrected before it is submitted.
    """
    return f"""<View>
  <Text name="instructions" value="$instructions"/>
{TASK if layout.has_tasks else ""}  <Text name="prompt" value="$prompt"/>
  <TextArea name="{RESPONSE}" toName="prompt" rows="8" maxSubmissions="1" editable="true" required="true"/>
</View>
"""


def tasks(rows: Sequence[Row], layout: Layout) -> bytes:
    """Return tasks as Label Studio imports them. An own id whose column is called `id`, as its own is, becomes `source_id`.

    Raises:
        ValueError: a further column has such a name.
    """
    clash = [name for name in layout.extras if folded(name) in TAKEN]
    if clash:
        raise ValueError(
            f"Label Studio has a column {folded(clash[0])!r} of its own, so its exports would lose yours; leave out --with "
            f"{clash[0]}, or use another --format"
        )
    is_taken = layout.own_id is not None and folded(layout.own_id) in TAKEN
    shown = replace(layout, own_id=OWN_ID) if is_taken else layout
    return json.dumps([{"data": shown.values(row)} for row in rows], ensure_ascii=False, indent=1).encode()


def is_tasks(items: Sequence[object]) -> bool:
    """True for tasks as in a JSON export, and for our own list that was never annotated; False for JSON-MIN."""
    return any(isinstance(item, dict) and isinstance(item.get("data"), dict) for item in items)


def flat(item: Mapping[str, Any], names: Names) -> Iterator[dict[str, Any]]:
    """Yield the annotations of one task of a JSON export, each as JSON-MIN has it: ids, the answer, who and when.

    An annotation that was skipped is no answer: it comes with `was_cancelled`. A task that nobody annotated yet comes
    once, without a `MARK`, as in JSON-MIN. What has not the shape of an export comes as a response that is no text, or
    without an id, and is refused as such.
    """
    data = item.get("data")
    told = folded_keys(data) if isinstance(data, dict) else {}
    ids = {
        name: told[name] for name in (names.prompt_id, *names.own_columns(told, is_label_studio=True)) if name in told
    }
    annotations = item.get("annotations", item.get("completions")) or []
    if not annotations:
        yield {**ids, MARK: None if isinstance(data, dict) else 0}
    for annotation in annotations if isinstance(annotations, list) else [annotations]:
        if not isinstance(annotation, dict):
            yield {**ids, MARK: 0, names.response: [annotation]}
            continue
        yield {
            **ids,
            names.response: _texts(annotation),
            MARK: annotation.get("id", 0),
            names.annotator: _who(annotation.get("completed_by")),
            "updated_at": annotation.get("updated_at"),
            "created_at": annotation.get("created_at"),
            "was_cancelled": bool(annotation.get("was_cancelled") or annotation.get("skipped")),
        }


def one_text(response: object) -> object:
    """The text of an answer as Label Studio minifies it: a single one stands as it is, several as `{"text": […]}`.

    Raises:
        ValueError: there are several, and it is not said which is the answer.
    """
    found: object = response
    if isinstance(response, str) and response.startswith('{"text"'):  # how its CSV writes several
        try:
            found = json.loads(response)
        except (ValueError, RecursionError):
            return response
    texts = found.get("text") if isinstance(found, dict) and set(found) == {"text"} else None
    if not isinstance(texts, list):
        return response
    if len(texts) > 1:
        raise ValueError(f"the annotation holds {len(texts)} texts; expected one. Join them in Label Studio")
    return texts[0] if texts else ""


def _texts(annotation: Mapping[str, Any]) -> object:
    """Everything that was typed into our text area: one text, or `{"text": […]}`."""
    texts: list[object] = []
    results = annotation.get("result") or []
    if not isinstance(results, list):
        return [results]
    for result in results:
        if isinstance(result, dict) and result.get("from_name") == RESPONSE:
            value = result.get("value")
            text = value.get("text") if isinstance(value, dict) else None
            texts += text if isinstance(text, list) else [text]
    return texts[0] if len(texts) == 1 else {"text": texts}


def _who(completed_by: object) -> object:
    """The annotator: an e-mail address where the export has one, else Label Studio's number of the user."""
    if isinstance(completed_by, dict):
        return completed_by.get("email") or completed_by.get("id")
    return completed_by
