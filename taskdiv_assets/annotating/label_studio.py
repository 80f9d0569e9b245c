"""Label Studio's side: tasks and a labelling configuration to import there, and how to read what it exports.

In and out: rows as plain values. Tried with Label Studio 1.23.2, whose own exports are kept with the tests. It exports JSON
(a task with its annotations), JSON-MIN and CSV (one row an annotation); all three carry our columns and the times.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from taskdiv_assets.annotating.ledger import Row

RESPONSE = "response"
# A column of JSON-MIN and CSV that nobody else's files have.
MARK = "annotation_id"
# `maxSubmissions` keeps it at one answer a prompt, `editable` lets it be corrected before it is submitted.
CONFIG = f"""<View>
  <Text name="instructions" value="$instructions"/>
  <Header value="$task"/>
  <Text name="prompt" value="$prompt"/>
  <TextArea name="{RESPONSE}" toName="prompt" rows="8" maxSubmissions="1" editable="true" required="true"/>
</View>
"""


def tasks(rows: Sequence[Row]) -> bytes:
    """Tasks as Label Studio imports them."""
    return json.dumps([{"data": row} for row in rows], ensure_ascii=False, indent=1).encode()


def is_tasks(items: Sequence[object]) -> bool:
    """True for tasks as in a JSON export, and for our own list that was never annotated; False for JSON-MIN."""
    return any(isinstance(item, dict) and isinstance(item.get("data"), dict) for item in items)


def flat(item: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Annotations of one task of a JSON export, each as JSON-MIN has it: our columns, the answer, who and when.

    An annotation that was skipped is no answer: it comes with `was_cancelled`. A task that nobody annotated yet comes
    once, without a `MARK`, as in JSON-MIN. What has not the shape of an export comes as a response that is no text, or
    without a prompt_id, and is refused as such.
    """
    data = item.get("data")
    prompt_id = data.get("prompt_id") if isinstance(data, dict) else None
    annotations = item.get("annotations", item.get("completions")) or []
    if not annotations:
        yield {"prompt_id": prompt_id, MARK: None if isinstance(data, dict) else 0}
    for annotation in annotations if isinstance(annotations, list) else [annotations]:
        if not isinstance(annotation, dict):
            yield {"prompt_id": prompt_id, MARK: 0, RESPONSE: [annotation]}
            continue
        yield {
            "prompt_id": prompt_id,
            RESPONSE: _texts(annotation),
            MARK: annotation.get("id", 0),
            "annotator": _who(annotation.get("completed_by")),
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
