"""Writes the logs in tests/compare/inspect_logs.tar.xz: inspect_ai 0.3.285 with its mock model. Needs inspect_ai, which the project does
not install.

Events, which comparing does not read and which are nine tenths of a log, are dropped by inspect_ai's own functions.
"""

import sys
from pathlib import Path

import tiktoken
from inspect_ai import Task, eval, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import read_eval_log, write_eval_log
from inspect_ai.model import ModelOutput, get_model
from inspect_ai.scorer import includes, match
from inspect_ai.solver import generate


class Characters:
    """A tokenizer that needs no download."""

    def encode(self, text: str, **_: object) -> list[str]:
        return list(text)


tiktoken.get_encoding = lambda _: Characters()
EPOCHS = 3
SUMS = {"good": "123456 123956 193496", "poor": "999456 199999 929999"}
WORDS = {"good": ["yes", "yes", "no", "yes", "yes"], "poor": ["no", "no", "no", "yes", "yes"]}


@task
def sums(fewshot: int = 0) -> Task:
    samples = [Sample(id=f"q{i}", input=f"{i}+1=", target=str(i + 1)) for i in range(6)]
    return Task(MemoryDataset(samples, name="sums"), solver=generate(), scorer=[match(location="exact"), includes()])


@task
def words() -> Task:
    return Task(
        MemoryDataset([Sample(input=f"word {i}", target="yes") for i in range(5)]), solver=generate(), scorer=match()
    )


def write(folder: Path) -> None:
    for name in SUMS:
        for made, answers, epochs in (
            (sums(), SUMS[name].replace(" ", ""), EPOCHS),
            (words(), WORDS[name] * EPOCHS, EPOCHS),
        ):
            outputs = [ModelOutput.from_content("mockllm/model", one) for one in answers]
            model = get_model("mockllm/model", custom_outputs=outputs, memoize=False)
            (log,) = eval(
                made,
                model=model,
                log_dir=str(folder / "raw"),
                log_format="json",
                epochs=epochs,
                max_connections=1,
                max_samples=1,
                display="none",
            )
            log = read_eval_log(log.location)
            assert log.status == "success"
            log.eval.model_args = {}
            for sample in log.samples:
                sample.events, sample.attachments, sample.messages = [], {}, []
            write_eval_log(log, str(folder / name / f"{log.eval.task}.json"))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
