"""Writer of tasks and a labelling configuration for Label Studio, and reader of its exports.

Label Studio exports JSON (a task with its annotations), JSON-MIN or CSV (one row per annotation). Each format contains the times
of the annotations and the columns of our list. The code was tested with Label Studio 1.23.2, whose exports are in the tests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from taskdiv_assets.annotating.columns import Names, folded_keys
from taskdiv_assets.annotating.layout import OWN_ID, TAKEN, Layout, Row, folded

RESPONSE = "response"
MARK = "annotation_id"  # only JSON-MIN and CSV of Label Studio have this column
TASK = '  <Header value="$task"/>\n'


def config(layout: Layout) -> str:
    """Return the labelling configuration. Annotators write one answer for each prompt, and can edit it before they submit it."""
    return f"""<View>
  <Text name="instructions" value="$instructions"/>
{TASK if layout.has_tasks else ""}  <Text name="prompt" value="$prompt"/>
  <TextArea name="{RESPONSE}" toName="prompt" rows="8" maxSubmissions="1" editable="true" required="true"/>
</View>
"""


def tasks(rows: Sequence[Row], layout: Layout) -> bytes:
    """Return the tasks that Label Studio imports, as JSON. Raise ValueError if an extra column has a name that Label Studio uses.

    If the own id column has such a name, for example `id`, the column is renamed to `source_id`.
    """
    clash = [name for name in layout.extras if folded(name) in TAKEN]
    if clash:
        raise ValueError(
            f"Label Studio has a column {folded(clash[0])!r} of its own, so its exports would lose yours; leave out --with "
            f"{clash[0]}, or use another --format"
        )
    is_taken = layout.own_id is not None and folded(layout.own_id) in TAKEN
    # Label Studio has an `annotator` of its own.
    data = replace(layout, own_id=OWN_ID if is_taken else layout.own_id, drafts=None, annotator=None)
    found = [{"data": data.values(row), **_predictions(row, layout)} for row in rows]
    return json.dumps(found, ensure_ascii=False, indent=1).encode()


def _predictions(row: Row, layout: Layout) -> dict[str, Any]:
    """Return a row's draft in the form of a prediction, which annotators see and edit; empty without a draft."""
    draft = row.get("draft")
    if layout.drafts is None or draft is None:
        return {}
    result = {"from_name": RESPONSE, "to_name": "prompt", "type": "textarea", "value": {"text": [draft]}}
    return {"predictions": [{"model_version": layout.drafts, "result": [result]}]}


def is_tasks(items: Sequence[object]) -> bool:
    """Return True if a list contains tasks. JSON exports and the file that Label Studio imports have tasks, JSON-MIN does not."""
    return any(isinstance(item, dict) and isinstance(item.get("data"), dict) for item in items)


def flat(item: Mapping[str, Any], names: Names) -> Iterator[dict[str, Any]]:
    """Yield a dictionary for each annotation of one task of a JSON export: ids and answer, as in a row of JSON-MIN.

    For a task without annotations, yield one dictionary, in which `MARK` is None. If a task or annotation is malformed, its
    dictionary has no id, or a response that is not text. The import then rejects this row.
    """
    data = item.get("data")
    row = folded_keys(data) if isinstance(data, dict) else {}
    ids = {name: row[name] for name in (names.prompt_id, *names.own_columns(row, is_label_studio=True)) if name in row}
    annotations = item.get("annotations", item.get("completions")) or []
    if not annotations:
        yield {**ids, MARK: None if isinstance(data, dict) else 0}
    for annotation in annotations if isinstance(annotations, list) else [annotations]:
        if not isinstance(annotation, dict):
            yield {**ids, MARK: 0, names.response: [annotation]}
            continue
        who = annotation.get("completed_by")
        yield {
            **ids,
            names.response: _texts(annotation),
            MARK: annotation.get("id", 0),
            names.annotator: who.get("email") or who.get("id") if isinstance(who, dict) else who,
            **{name: annotation.get(name) for name in ("updated_at", "created_at")},
            "was_cancelled": bool(annotation.get("was_cancelled") or annotation.get("skipped")),
        }


def one_text(response: object) -> object:
    """Return the only text of a response `{"text": […]}`, or "" if it has no text. Return another response unchanged.

    Raise ValueError if the response has several texts.
    """
    found: object = response
    if isinstance(response, str) and response.startswith('{"text"'):  # several texts in a CSV export
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
