"""Prompts from several columns, from conversations and from JSON arrays; previews of rows; further columns by prompt id."""

import json
import os

import pytest

from taskdiv_assets.experiment.pool_settings import Columns, Pool, TaskLabels
from taskdiv_assets.pools import chat
from taskdiv_assets.pools.read import extra_columns, read_pool
from taskdiv_assets.pools.visible import is_blank

ALPACA = [
    {"instruction": "Translate.", "input": "Guten Tag {x}", "output": "Good day"},
    {"instruction": "Name a fish.", "input": "", "output": "Tope"},
    {"instruction": "", "input": " ", "output": "nothing was asked"},
]


def write(path, rows):
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return str(path)


def read(path, columns, **changes):
    pool = read_pool(Pool(reader="table", path=path, columns=columns, **changes))
    return sorted(pool.table.to_pylist(), key=lambda row: row["position"])


def prompts(path, columns, **changes):
    return [row["prompt"] for row in read(path, columns, **changes)]


def test_a_json_array_such_as_alpacas_is_read(tmp_path):
    path = write(tmp_path / "alpaca.json", ALPACA[:2])
    found = read(path, {"prompt": "instruction", "response": "output"})
    assert [(row["prompt"], row["response"]) for row in found] == [("Translate.", "Good day"), ("Name a fish.", "Tope")]


def test_json_lines_under_the_name_of_json_are_read_as_such(tmp_path):
    (tmp_path / "a.json").write_text('{"q": "a"}\n{"q": "b"}\n')
    assert prompts(str(tmp_path / "a.json"), {"prompt": "q"}) == ["a", "b"]
    (tmp_path / "one.json").write_text('{"q": "a"}\n')
    with pytest.raises(ValueError, match=r"one\.json is one JSON object with 1 keys; expected a list of objects"):
        prompts(str(tmp_path / "one.json"), {"prompt": "q"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"data": [{"q": "a"}]}', "is one JSON object with 1 keys; .* may be the list 'data': save that alone"),
        ('[{"q": "a"}, "b"]', "entry 2 is a JSON str; expected an object"),
        ('[{"q": "a"}', r"is not JSON \(Expecting ',' delimiter at column 12\)"),
        ('[{"q": "a", "q": "b"}]', "an object has the key 'q' twice"),
        (f'[{{"q": {"1" * 5000}}}]', "a whole number has 5,000 digits; write it as text, in quotes"),
        ("[" * 100_000, "it is nested too deep"),
        ("3", "is a JSON int"),
    ],
)
def test_json_that_holds_no_rows_is_one_sentence(text, said, tmp_path):
    (tmp_path / "pool.json").write_text(text)
    with pytest.raises(ValueError, match=said) as error:
        prompts(str(tmp_path / "pool.json"), {"prompt": "q"})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("number", ["1" * 5000, "1" * 401])
def test_a_huge_number_in_json_lines_is_one_sentence(number, tmp_path):
    (tmp_path / "pool.jsonl").write_text(f'{{"q": "a", "n": {number}}}\n')
    with pytest.raises(ValueError, match=r"pool\.jsonl, line 1 cannot be read: a whole number has .* digits"):
        prompts(str(tmp_path / "pool.jsonl"), {"prompt": "q"})


class TestPromptsOfSeveralColumns:
    def test_columns_are_joined_by_a_blank_line_and_empty_ones_left_out(self, tmp_path):
        path = write(tmp_path / "a.json", ALPACA[:2])
        assert prompts(path, {"prompt": ["instruction", "input"]}) == ["Translate.\n\nGuten Tag {x}", "Name a fish."]

    def test_a_template_takes_column_names_and_leaves_braces_of_the_data_alone(self, tmp_path):
        path = write(tmp_path / "a.json", ALPACA[:2])
        template = "{{Task}} {instruction}\n\n{input}"
        assert prompts(path, {"prompt": template}) == ["{Task} Translate.\n\nGuten Tag {x}", "{Task} Name a fish."]

    def test_a_column_with_braces_in_its_name_is_a_column(self, tmp_path):
        path = write(tmp_path / "a.json", [{"{q}": "a", "q": "b"}])
        assert prompts(path, {"prompt": "{q}"}) == ["a"]

    def test_a_row_without_any_text_is_an_empty_prompt(self, tmp_path):
        path = write(tmp_path / "a.json", ALPACA)
        for prompt in (["instruction", "input"], "Do this: {instruction} {input}"):
            with pytest.raises(ValueError, match=r"a\.json, row 3: the prompt is empty"):
                prompts(path, {"prompt": prompt})

    @pytest.mark.parametrize("prompt", [["instrution"], ["input", "instrution"], "{input} {instrution}"])
    def test_an_unknown_name_is_an_error_with_the_near_miss(self, prompt, tmp_path):
        path = write(tmp_path / "a.json", ALPACA)
        with pytest.raises(ValueError, match=r"no column 'instrution'; .* Did you mean 'instruction'\?"):
            prompts(path, {"prompt": prompt})

    def test_settings_that_do_not_fit_each_other_are_refused(self):
        for columns, said in (
            ({}, "expected either `prompt: COLUMN` or `messages: COLUMN`"),
            ({"prompt": "a", "messages": "b"}, "expected either"),
            ({"messages": "a", "response": "b"}, "the answer of a conversation is its last turn"),
            ({"prompt": ["a", "a"]}, "names a column twice"),
        ):
            with pytest.raises(ValueError, match=said):
                Columns(**columns)
        with pytest.raises(ValueError, match="reader `flan` takes one column"):
            Pool(reader="flan", path="x", columns={"prompt": ["a", "b"]})
        with pytest.raises(ValueError, match="`turns` is for conversations"):
            Pool(reader="table", path="x", columns={"prompt": "a"}, turns="all")
        with pytest.raises(ValueError, match="`limit` takes the first rows, `sample` rows from everywhere"):
            Pool(reader="table", path="x", columns={"prompt": "a"}, limit=3, sample=3)

    def test_what_a_file_leaves_out_is_in_no_identity(self):
        said = Pool(reader="table", path="x", columns={"prompt": "a"}).model_dump()
        assert not {"encoding", "separator", "escape", "sheet", "turns", "limit"} & set(said)
        assert said["columns"] == {"prompt": "a", "response": None, "task": None, "id": None}
        assert TaskLabels().model_dump() == {"source": "column", "path": None}


OPENAI = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi."},
    {"role": "user", "content": [{"type": "text", "text": "Name a"}, {"type": "text", "text": "fish."}]},
    {"role": "assistant", "content": "Tope"},
]
SHAREGPT = [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}]
LAST = "System: Be brief.\n\nUser: Hello\n\nAssistant: Hi.\n\nUser: Name a\nfish."


class TestConversations:
    def test_the_last_turn_is_the_answer_and_what_is_before_it_the_prompt(self, tmp_path):
        path = write(tmp_path / "a.json", [{"messages": OPENAI}, {"messages": OPENAI[:4]}, {"messages": OPENAI[1:3]}])
        found = read(path, {"messages": "messages"})
        assert [(row["prompt"], row["response"]) for row in found] == [(LAST, "Tope"), (LAST, None), ("Hello", "Hi.")]

    def test_sharegpts_names_are_the_same(self, tmp_path):
        path = write(tmp_path / "a.json", [{"id": 7, "conversations": SHAREGPT, "kind": "maths"}])
        (row,) = read(path, {"messages": "conversations", "id": "id", "task": "kind"})
        assert (row["source_id"], row["prompt"], row["response"], row["source_task"]) == ("7", "2 + 2?", "4", "maths")

    def test_every_turn_of_the_assistant_can_be_a_row(self, tmp_path):
        rows = [{"id": "x", "m": OPENAI}, {"id": "y", "m": [*OPENAI[2:3], *OPENAI[1:3], *OPENAI[1:2]]}]
        pool = Pool(
            reader="table", path=write(tmp_path / "a.json", rows), columns={"messages": "m", "id": "id"}, turns="all"
        )
        found = sorted(read_pool(pool).table.to_pylist(), key=lambda row: row["position"])
        assert [(row["source_id"], row["response"]) for row in found] == [
            ("x#1", "Hi."),
            ("x#2", "Tope"),
            ("y#2", "Hi."),  # the first turn has nothing before it
            ("y#3", None),  # the user's last question is open
        ]
        assert set(extra_columns(pool, ["id"], [row["prompt_id"] for row in found]).values()) == {("x",), ("y",)}

    def test_conversations_of_parquet_and_of_csv_are_the_same(self, tmp_path):
        import pyarrow as pa
        import pyarrow.csv as pacsv
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist([{"m": OPENAI[:3]}]), tmp_path / "a.parquet")
        pacsv.write_csv(pa.table({"m": [json.dumps(OPENAI[:3])]}), tmp_path / "a.csv")
        expected = ["System: Be brief.\n\nUser: Hello"]
        assert prompts(str(tmp_path / "a.parquet"), {"messages": "m"}) == expected
        assert prompts(str(tmp_path / "a.csv"), {"messages": "m"}) == expected

    @pytest.mark.parametrize(
        ("messages", "said"),
        [
            ([{"role": "owl", "content": "x"}], "message 1 has role 'owl'; expected one of user, human, assistant"),
            (["x"], "message 1 is 'x'; expected `role` and `content`"),
            ([], "row 1, column 'm' holds no conversation"),
            ("hello", "holds no conversation but 'hello'"),
            ([{"role": "assistant", "content": None}], "`content` is None; expected text"),
            ([{"role": "user", "content": [{"type": "image_url"}]}], "Images and tool calls cannot be part of a prompt"),
        ],
    )  # fmt: skip
    def test_what_is_no_conversation_is_one_sentence(self, messages, said, tmp_path):
        with pytest.raises(ValueError, match=said):
            read(write(tmp_path / "a.json", [{"m": messages}]), {"messages": "m"})

    def test_every_role_has_a_speaker(self):
        assert set(chat.ROLES.values()) == {"User", "Assistant", "System", "Tool"}


def test_the_first_rows_over_all_files_and_what_is_left_out_is_counted(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text("q\n" + "".join(f"{name}{i}\n" for i in range(3)))
    settings = Pool(reader="table", path=str(tmp_path), columns={"prompt": "q"}, limit=4)
    pool = read_pool(settings)
    assert sorted(pool.table["prompt"].to_pylist()) == ["a0", "a1", "a2", "b0"]
    assert (pool.rows_read_n, pool.drops) == (6, {"over_limit": 2})
    assert len(extra_columns(settings, ["q"])) == 4


class TestExtraColumns:
    def test_numbers_and_lists_come_as_json_text(self, tmp_path):
        path = write(tmp_path / "a.json", [{"q": "a", "n": 1.5, "l": ["x"], "t": "y"}, {"q": "b"}])
        found = extra_columns(Pool(reader="table", path=path, columns={"prompt": "q"}), ["n", "l", "t"])
        assert list(found.values()) == [("1.5", '["x"]', "y"), (None, None, None)]

    def test_rows_that_were_dropped_are_there_too(self, tmp_path):
        path = write(tmp_path / "a.json", [{"q": "a", "c": "1"}, {"q": "a", "c": "2"}])
        settings = Pool(reader="table", path=path, columns={"prompt": "q"}, duplicates="drop")
        pool = read_pool(settings)
        found = extra_columns(settings, ["c"])
        assert found[pool.table["prompt_id"][0].as_py()] == ("1",)
        assert found[pool.copies["copy_id"][0].as_py()] == ("2",)

    def test_a_missing_column_and_a_source_that_has_changed_are_errors(self, tmp_path):
        path = write(tmp_path / "a.json", [{"q": "a", "channel": "1"}])
        settings = Pool(reader="table", path=path, columns={"prompt": "q"})
        with pytest.raises(ValueError, match=r"no column 'chanel'.*Did you mean 'channel'"):
            extra_columns(settings, ["chanel"])
        with pytest.raises(ValueError, match="no longer has 1 of 1 prompts, the first is f+; the source has changed"):
            extra_columns(settings, ["channel"], ["f" * 16])
        with pytest.raises(ValueError, match="the lab makes its own pool"):
            extra_columns(Pool(reader="lab"), ["channel"])


@pytest.mark.parametrize("blank", ["\u200b", " \u00a0\ufeff\n", "\u2800", "\u3164", "\u00ad", "\ufe0f"])
def test_a_prompt_without_a_visible_character_is_empty(blank, tmp_path):
    path = write(tmp_path / "a.json", [{"q": "a"}, {"q": blank}])
    with pytest.raises(ValueError, match=r"row 2: the prompt is empty"):
        prompts(path, {"prompt": "q"})


def test_the_contract_calls_the_same_characters_visible():
    import re

    from data_contracts import load

    pattern = re.compile(load("raw_pool").rule("prompt_not_blank").kwargs["regex"])
    # Invisible ones are below the ideographs, or are few above them.
    codes = [*range(0x3400), *range(0xF900, 0x11200), *range(0x13400, 0x13460), *range(0x1BC00, 0x1D200)]
    codes += range(0xE0000, 0xE0200)
    assert [code for code in codes if bool(pattern.search(chr(code))) == is_blank(chr(code))] == []


def test_a_pipe_or_a_lock_in_a_folder_is_left_alone_and_a_near_miss_is_never_the_file_itself(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"q": "a"}\n')
    os.mkfifo(tmp_path / "b.jsonl")
    (tmp_path / ".c.jsonl").write_text("hidden")
    (tmp_path / "dataset_info.json").write_text("{}")
    assert prompts(str(tmp_path), {"prompt": "q"}) == ["a"]
    with pytest.raises(ValueError, match=r"Something else has this name, such as a pipe"):
        prompts(str(tmp_path / "b.jsonl"), {"prompt": "q"})
    with pytest.raises(ValueError, match=r"a\.jsonl is named twice by `path`"):
        read_pool(Pool(reader="table", path=[str(tmp_path / "a.jsonl"), str(tmp_path)], columns={"prompt": "q"}))


def test_parquet_that_is_no_text_or_has_a_column_twice_is_one_sentence(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    bad = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")])
    pq.write_table(pa.table({"q": bad}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet: column 'q' cannot be read as text"):
        prompts(str(tmp_path / "a.parquet"), {"prompt": "q"})
    pq.write_table(pa.table([["a"], ["b"]], names=["q", "q"]), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"b\.parquet has two columns named 'q'"):
        prompts(str(tmp_path / "b.parquet"), {"prompt": "q"})


def test_a_parquet_file_with_a_flipped_footer_is_one_sentence(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"q": ["a", "b"]}), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    for place in range(len(whole) - 200, len(whole)):
        (tmp_path / "b.parquet").write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            prompts(str(tmp_path / "b.parquet"), {"prompt": "q"})
        except ValueError as error:
            assert "b.parquet" in str(error)


def test_every_example_of_the_documentation_is_understood():
    import re
    from pathlib import Path

    import yaml

    page = (Path(__file__).parents[2] / "docs/POOLS.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 11
    for block in blocks:
        lines = block.splitlines() if block.startswith("columns:") else [block]
        for found in map(yaml.safe_load, lines):
            if "pool" in found:
                Pool.model_validate(found["pool"])
            if "columns" in found:
                Columns.model_validate(found["columns"])
            TaskLabels.model_validate(found.get("task_labels", {}))


@pytest.mark.parametrize("text", ["", "\n", "\r", "\r\r\r", "\r\n\n", "   \n", "\u00a0\r\n"])
def test_a_csv_file_without_anything_says_that_it_is_empty(tmp_path, text):
    (tmp_path / "a.csv").write_bytes(text.encode())
    with pytest.raises(ValueError, match=r"a\.csv is empty; expected a header"):
        prompts(str(tmp_path / "a.csv"), {"prompt": "q"})


@pytest.mark.parametrize("text", [" \nq\na\n", ",\nq,t\n", '"\n"\nq\n'])
def test_a_csv_header_without_names_is_called_so(tmp_path, text):
    (tmp_path / "a.csv").write_bytes(text.encode())
    with pytest.raises(ValueError, match=r"a\.csv has no column names in its first line that is not empty"):
        prompts(str(tmp_path / "a.csv"), {"prompt": "q"})


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_every_kind_of_line_end_is_read_and_empty_lines_above_the_header_are_skipped(tmp_path, end):
    (tmp_path / "a.csv").write_bytes(end.join(["", "", "q,t", "a,1", "b,2", ""]).encode())
    assert sorted(prompts(str(tmp_path / "a.csv"), {"prompt": "q"})) == ["a", "b"]


@pytest.mark.parametrize("kind", ["loop", "dangling", "pipe"])
def test_the_hint_never_names_what_was_asked_for(tmp_path, kind):
    path = tmp_path / "p.jsonl"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path if kind == "loop" else tmp_path / "nowhere")
    with pytest.raises(
        ValueError, match="Something else has this name, such as a pipe, or a broken or circular link"
    ) as caught:
        prompts(str(path), {"prompt": "q"})
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    "blank", [" ", "   ", "\t", "\n", "\u00a0", "\u3000", "\u2003", "\u200b", "\ufeff", "\u2060", " \u200d "]
)
def test_every_blank_is_blank(tmp_path, blank):
    path = write(tmp_path / "a.json", [{"q": "a"}, {"q": blank}])
    with pytest.raises(ValueError, match=r"row 2: the prompt is empty"):
        prompts(path, {"prompt": "q"})
