"""Agreement of annotators on the prompts that several of them answered, from the stored imports."""

from collections.abc import Mapping
from typing import NamedTuple

import pyarrow as pa

from reports import annotator_agreement as agreement
from reports.annotator_agreement import Agreement
from reports.lists import sent_out
from reports.reader import Reader


class AnsweredTwice(NamedTuple):
    """Agreement of annotators on the prompts that two or more of them answered."""

    prompts_n: int
    differing_n: int  # of these, prompts whose answers are not the same text
    every: Agreement
    by_task: Mapping[str, Agreement]
    by_pair: Mapping[tuple[str, str], Agreement]


def read(reader: Reader) -> AnsweredTwice | None:
    """Return the agreement; None if no prompt was answered by two people with a name."""
    answers = {one: by_person for one, by_person in sent_out.read_texts(reader).items() if len(by_person) > 1}
    if not answers:
        return None
    table = reader.columns("task_labels", None, "prompt_id", "task")
    columns = [] if table is None else [table[name].cast(pa.string()).to_pylist() for name in ("prompt_id", "task")]
    tasks = dict(zip(*columns, strict=True)) if columns else {}
    differing_n = sum(len(set(by_person.values())) > 1 for by_person in answers.values())
    every = agreement.agreement(answers.values())
    return AnsweredTwice(
        len(answers), differing_n, every, agreement.by_group(answers, tasks), agreement.by_pair(answers)
    )
