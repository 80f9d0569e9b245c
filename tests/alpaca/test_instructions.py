"""Instructions in every format, from the hub's cache, and from invalid sources."""

import gzip
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from taskdiv_assets.benchmarks.alpaca.instructions import Instruction, read_instructions, source_sha256
from tests.alpaca.shared import instructions_file, written

ROWS = [
    {"instruction": "Say\u2028hi", "output": "hi", "dataset": "koala", "generator": "davinci"},
    {"instruction": "Say nothing", "output": "", "dataset": "oasst", "generator": "davinci"},
]
EXPECTED = (
    Instruction("Say\u2028hi", "koala", "hi", "davinci"),
    Instruction("Say nothing", "oasst", "", "davinci"),
)
ENDINGS = (".json", ".jsonl", ".json.gz", ".jsonl.gz", ".parquet")


def test_the_published_file_is_read_whole(shared_data: Path) -> None:
    found = read_instructions(instructions_file(shared_data))
    assert len(found) == len({instruction.text for instruction in found}) == 805
    counts = Counter(instruction.dataset for instruction in found)
    assert counts == {"selfinstruct": 252, "oasst": 188, "koala": 156, "helpful_base": 129, "vicuna": 80}
    assert {instruction.reference_generator for instruction in found} == {"text_davinci_003"}
    assert sum(not instruction.reference_output.strip() for instruction in found) == 2


def test_its_hash_is_the_one_that_was_published_with_it(shared_data: Path) -> None:
    stated = (shared_data / "README.md").read_text()
    assert f"| {source_sha256(instructions_file(shared_data))} |" in stated


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_format_holds_the_same(tmp_path: Path, ending: str) -> None:
    assert read_instructions(written(tmp_path / f"a{ending}", ROWS)) == EXPECTED


def test_any_storage(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", ROWS)
    assert read_instructions(f"file://{path}") == EXPECTED
    assert source_sha256(f"file://{path}") == hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_dataset_and_generator_may_be_missing(tmp_path: Path) -> None:
    [found] = read_instructions(written(tmp_path / "a.json", [{"instruction": "a", "output": "b"}]))
    assert found == Instruction("a", "unknown", "b", "reference")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"instruction": "a"}], "row 0 has no column output; it has instruction"),
        ([{"output": "a"}], "no column instruction"),
        ([{"instruction": " \n", "output": "a"}], "row 0: instruction .*not blank"),
        ([{"instruction": "a", "output": None}], "row 0: output is None"),
        ([{"instruction": "a", "output": "b"}] * 2, "rows 0 and 1 hold the same instruction"),
        ([], "no rows"),
        ({"instruction": "a", "output": "b"}, "no rows"),
        (["a"], "no rows"),
    ],
)
def test_wrong_rows_are_refused(tmp_path: Path, rows: Any, words: str) -> None:
    source = written(tmp_path / "a.json", rows)
    with pytest.raises(ValueError, match=words) as caught:
        read_instructions(source)
    assert source in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b"{"),
        ("a.json", b"\xff\xfe"),
        ("a.jsonl", b'{"a": 1}\n{'),
        ("a.json.gz", b"[]"),
        ("a.jsonl.gz", gzip.compress(b"[" * 500, mtime=0)[:-9]),  # its time would be in the id, another in each worker
        ("a.parquet", b"PAR0"),
        ("a.csv", b"instruction,output\n"),
    ],
)
def test_a_file_that_is_not_what_its_ending_says(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"expected a file \.json"):
        read_instructions(str(tmp_path / name))


def test_nothing_there(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.json", tmp_path):
        for read in (read_instructions, source_sha256):
            with pytest.raises(ValueError, match="cannot be read"):
                read(str(path))


def hub_process(cache: Path) -> subprocess.CompletedProcess[str]:
    """Run `read_instructions("hub")` in a process without network, with the hub's cache in `cache`."""
    code = "from taskdiv_assets.benchmarks.alpaca.instructions import *\nprint(read_instructions('hub')[1])"
    variables = {**os.environ, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "1"}
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        variables.pop(name, None)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=variables)


def test_the_hub_s_file_comes_from_its_cache(tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "datasets--tatsu-lab--alpaca_eval"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("a" * 40)
    (folder / "snapshots" / ("a" * 40)).mkdir(parents=True)
    written(folder / "snapshots" / ("a" * 40) / "alpaca_eval.json", ROWS)
    run = hub_process(tmp_path)
    assert run.stdout.strip() == str(EXPECTED[1]), run.stderr


def test_a_hub_out_of_reach_is_one_sentence(tmp_path: Path) -> None:
    run = hub_process(tmp_path)
    assert "ValueError: alpaca_eval.json of the data set tatsu-lab/alpaca_eval could not be fetched" in run.stderr
    assert "name a local copy" in run.stderr.splitlines()[-1]


def test_the_hub_is_not_asked_for_its_hash() -> None:
    assert source_sha256("hub") == "hub"


def test_reading_rows_imports_nothing_heavy() -> None:
    code = (
        "import sys, taskdiv_assets.benchmarks.alpaca.instructions, taskdiv_assets.benchmarks.alpaca.verdict_parts, taskdiv_assets.benchmarks.alpaca.judge\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(run.stdout.split()) & {"torch", "openai", "pandas", "huggingface_hub", "dagster"}


def test_json_written_by_others_with_escapes_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(ROWS, ensure_ascii=True))
    assert read_instructions(str(tmp_path / "a.json")) == EXPECTED
