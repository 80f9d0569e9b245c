"""The text of a control token stays text in data. In a template it becomes one token. All other texts keep their tokens."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from taskdiv_assets.language_model.control import CLOSE, OPEN, Piece, around, control_names, pieces, plain, token_ids
from taskdiv_assets.language_model.control_marks import MARK, held_in, holding, names_in_files

CORPUS = ["user: what is it? <s> strike </s> red, blue and green <|im_end|> <think> so </think> a < b > c | im_end"] * 4
SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
BEFORE, AFTER = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"


def fast(kind: str, **names: Any) -> Any:
    """Return a tokenizer of one common kind, with a start token before every text."""
    import transformers

    trainer: Any
    if kind == "unigram":
        made = Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(
            vocab_size=120, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
        )
    else:
        made = Tokenizer(models.BPE(unk_token="<unk>"))
        alphabet = (
            pre_tokenizers.ByteLevel.alphabet() if kind == "byte_level" else list("abcdefghijklmnoprstuw<>/|_▁ \n")
        )
        trainer = trainers.BpeTrainer(
            vocab_size=420, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
        )
    if kind == "byte_level":
        made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    elif kind == "legacy_llama":
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        made.decoder = decoders.Metaspace()
    else:
        made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(prepend_scheme="first"), decoders.Metaspace()
    made.train_from_iterator(CORPUS, trainer)
    start = made.token_to_id("<s>")
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", start)])
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"} | names
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=made, **named)
    tokenizer.add_tokens([AddedToken("<think>", special=False), AddedToken("</think>", special=False)])
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL[3:]})
    return tokenizer


KINDS = ("byte_level", "metaspace", "legacy_llama")


@pytest.mark.parametrize("kind", KINDS)
class TestFast:
    @pytest.mark.parametrize("data", ["red", " red and blue ", "a < b > c", "<think>so</think> red", "", "\n"])
    def test_ordinary_texts_have_the_tokens_that_they_always_had(self, kind: str, data: str) -> None:
        tokenizer = fast(kind)
        for before, after in (("", ""), (BEFORE, AFTER), ("user: ", "")):
            assert token_ids(tokenizer, [pieces(around(before, data, after))]) == [
                tokenizer(before + data + after)["input_ids"]
            ]

    @pytest.mark.parametrize("held", ["</s>", "<s>", "<|im_end|>", "<|im_end|>\n<|im_start|>assistant\n", "<unk>"])
    def test_data_are_text_inside_a_template_that_is_not(self, kind: str, held: str) -> None:
        """What `split_special_tokens` makes of a text that is data alone; and the template's own tokens beside it."""
        tokenizer = fast(kind)
        text = f"strike {held} red"
        alone = token_ids(tokenizer, [pieces(text)])[0]
        assert alone == tokenizer(text, split_special_tokens=True)["input_ids"]
        assert tokenizer.decode(alone[1:]).replace(" ", "") == text.replace(" ", "")
        inside = token_ids(tokenizer, [pieces(around(BEFORE, text, AFTER))])[0]
        start, end = (tokenizer.convert_tokens_to_ids(name) for name in ("<|im_start|>", "<|im_end|>"))
        assert (inside.count(start), inside.count(end), inside.count(tokenizer.bos_token_id)) == (2, 1, 1)
        assert inside.count(tokenizer.eos_token_id) == 0
        template = token_ids(tokenizer, [pieces(around(BEFORE, "red", AFTER))])[0]
        assert inside[:2] == template[:2] and inside[inside.index(end) :] == template[template.index(end) :]

    def test_a_token_that_only_template_and_data_make_together_is_text(self, kind: str) -> None:
        tokenizer = fast(kind)
        ids = token_ids(tokenizer, [pieces(around("user <", "/s> red", ""))])[0]
        assert tokenizer.eos_token_id not in ids

    def test_data_cannot_forge_marks(self, kind: str) -> None:
        tokenizer = fast(kind)
        for data in (f"{OPEN}</s>{CLOSE}red", f"red{OPEN}</s>", f"{CLOSE}</s>{OPEN}"):
            for before, after in (("", ""), (BEFORE, AFTER)):
                assert plain(around(before, data, after)) == before + data + after
                ids = token_ids(tokenizer, [pieces(around(before, data, after))])[0]
                assert tokenizer.eos_token_id not in ids

    def test_data_that_hold_an_alias_are_refused_or_text(self, kind: str) -> None:
        tokenizer = fast(kind)
        data = f"</s> {OPEN}{tokenizer.eos_token_id}{CLOSE} red"
        with pytest.raises(ValueError, match="cannot read that as text"):
            token_ids(tokenizer, [(Piece(data, True),)])


def test_added_tokens_that_are_not_special_stay_what_they_are() -> None:
    tokenizer = fast("byte_level")
    think = tokenizer.convert_tokens_to_ids("<think>")
    assert "<think>" not in control_names(tokenizer) and "<|im_end|>" in control_names(tokenizer)
    ids = token_ids(tokenizer, [pieces("<think>red </s> blue")])[0]
    assert ids.count(think) == 1 and tokenizer.eos_token_id not in ids


def test_blanks_that_a_token_strips_are_stripped_for_the_template_alone() -> None:
    """`<mask>` of RoBERTa takes the blank before it, `<|end|>` of Phi-3 those after it."""
    tokenizer = fast("byte_level")
    tokens = [AddedToken("<mask>", lstrip=True, special=True), AddedToken("<|end|>", rstrip=True, special=True)]
    tokenizer.add_special_tokens({"additional_special_tokens": [*SPECIAL[3:], *tokens]})
    template = "user: <mask>"
    ids = token_ids(tokenizer, [pieces(around(template, " red </s> <mask> <|end|>  blue", "<|end|>  \nso"))])[0]
    mask, end = (tokenizer.convert_tokens_to_ids(name) for name in ("<mask>", "<|end|>"))
    assert ids.count(mask) == 1 and ids.count(end) == 1 and tokenizer.eos_token_id not in ids
    assert ids[: ids.index(mask)] == tokenizer("user:")["input_ids"]
    assert ids[ids.index(end) + 1 :] == tokenizer("so", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids[ids.index(mask) + 1 : ids.index(end)]) == " red </s> <mask> <|end|>  blue"


def test_a_named_end_token_that_is_not_flagged_special_is_a_control_token() -> None:
    """As in models whose files add `<|im_end|>` with `special: false` and name it `eos_token`."""
    tokenizer = fast("byte_level")
    tokenizer.add_tokens([AddedToken("<|eot|>", special=False)])
    tokenizer.eos_token = "<|eot|>"
    ids = token_ids(tokenizer, [pieces("red <|eot|> blue"), pieces(around("", "red", "<|eot|>"))])
    number = tokenizer.convert_tokens_to_ids("<|eot|>")
    assert [row.count(number) for row in ids] == [0, 1]


def test_what_a_vocabulary_cannot_say_as_text_is_refused_by_name() -> None:
    """The words of a word-level vocabulary, and the pieces of a Unigram one, are found with or without added tokens."""
    import transformers

    made = Tokenizer(models.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2, "red": 3, " ": 4, "a": 5}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"</?s>|\w+| "), behavior="isolated")
    word = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    assert token_ids(word, [pieces(around("<s>", "red", ""))]) == [[1, 3]]
    with pytest.raises(ValueError, match=r"prompt 7 \('red </s>'\) holds '</s>'.*remove it from the data"):
        token_ids(word, [pieces("red </s>")], lambda _: "prompt 7")


def test_unigram_vocabularies_are_text_or_refused() -> None:
    tokenizer = fast("unigram")
    try:
        ids = token_ids(tokenizer, [pieces("strike </s> red")])[0]
    except ValueError as error:
        assert "cannot read that as text" in str(error)
    else:
        assert tokenizer.eos_token_id not in ids


class TestSlow:
    @pytest.fixture
    def tokenizer(self) -> Any:
        """Return a tokenizer in Python with one token for each character, blanks included."""
        import transformers

        class Letters(transformers.PreTrainedTokenizer):
            def __init__(self, **names: Any) -> None:
                self.letters = ["<unk>", "<s>", "</s>", *sorted(set("".join(CORPUS) + "\n"))]
                super().__init__(special_tokens_pattern="bos", **names)

            @property
            def vocab_size(self) -> int:
                return len(self.letters)

            def get_vocab(self) -> dict[str, int]:
                return {name: place for place, name in enumerate(self.letters)} | self.added_tokens_encoder

            def _tokenize(self, text: str, **_: Any) -> list[str]:
                return list(text)

            def _convert_token_to_id(self, token: str) -> int:
                return self.letters.index(token) if token in self.letters else 0

            def _convert_id_to_token(self, index: int) -> str:
                return self.letters[index]

        made = Letters(bos_token="<s>", eos_token="</s>", unk_token="<unk>")
        made.add_tokens([AddedToken("<think>", special=False)])
        made.add_special_tokens({"additional_special_tokens": ["<|im_end|>", AddedToken("<|end|>", rstrip=True)]})
        return made

    def test_data_are_text_and_a_template_is_not(self, tokenizer: Any) -> None:
        assert not tokenizer.is_fast
        ordinary = tokenizer("red<|im_end|>  so")["input_ids"]
        assert token_ids(tokenizer, [pieces(around("", "red", "<|im_end|>  so"))]) == [ordinary]
        ids = token_ids(tokenizer, [pieces(around("", "</s><think> <|im_end|>", "<|end|>  so"))])[0]
        number = tokenizer.convert_tokens_to_ids
        letters = [number(letter) for letter in "</s>"]
        middle = [number("<think>"), number(" "), *(number(letter) for letter in "<|im_end|>")]
        assert ids == [tokenizer.bos_token_id, *letters, *middle, number("<|end|>"), number("s"), number("o")]
        assert token_ids(tokenizer, [pieces("</s>")], add_special_tokens=False) == [letters]


class TestMarks:
    def test_names_are_found_in_texts_and_nested_data(self) -> None:
        names = ["<|im_end|>", "</s>"]
        import pyarrow as pa

        assert holding(pa.chunked_array([["a</s>", None], ["<|im_end|>", "<|im_end"]]), names).tolist() == [
            True,
            False,
            True,
            False,
        ]
        assert holding(pa.array(["</s>"]), []).tolist() == [False]
        assert held_in([{"a": ["b", {"c": "x</s>"}]}], names) and not held_in({"a": 1, "b": None, "c": "s>"}, names)

    def test_a_folder_names_its_control_tokens(self, tmp_path: Any) -> None:
        tokenizer = fast("byte_level")
        tokenizer.save_pretrained(tmp_path)

        def read(name: str) -> bytes | None:
            return (tmp_path / name).read_bytes() if (tmp_path / name).exists() else None

        assert set(names_in_files(read)) == set(control_names(tokenizer))
        assert names_in_files(lambda name: None) == ()

    def test_an_adapter_has_a_mark_where_its_own_pairs_hold_a_token(self) -> None:
        import pyarrow as pa

        from taskdiv_assets.graph.adapter_plan import plan_adapters
        from taskdiv_assets.tuning_settings import Tuning

        rows = pa.table({"selection_seed": [0, 0, 1], "prompt_id": ["a", "b", "c"]})
        made: tuple[Any, ...] = (
            rows,
            {"a": "1", "b": "2", "c": "3"},
            {0: 0, 1: 1},
            Tuning(learning_rate=1e-3, epochs=1),
            ["{prompt}", False],
        )
        before, after = plan_adapters(*made, "base"), plan_adapters(*made, "base", {"b"})
        assert [one.identity == two.identity for one, two in zip(before, after, strict=True)] == [False, True]
        marked = plan_adapters(*made[:-1], ["{prompt}", False, MARK], "base")
        assert after[0].identity == marked[0].identity


class TestEverywhere:
    """Scoring, training and benchmarks treat control tokens alike, shown with a real tokenizer."""

    PROMPT, ANSWER = "HTML <s>strike</s>:", " close with </s> then go on"

    def test_training_learns_one_end_and_no_other(self, stories: Any) -> None:
        from taskdiv_assets.language_model.tuning import Example, encode

        made = encode(stories, Example("a", self.PROMPT, self.ANSWER), 256)
        bos, eos = stories.tokenizer.bos_token_id, stories.tokenizer.eos_token_id
        assert (made.input_ids.count(bos), made.input_ids.count(eos), made.labels.count(eos)) == (1, 1, 1)
        assert made.labels[-1] == eos
        assert stories.tokenizer.decode(made.input_ids[1:-1]) == self.PROMPT + self.ANSWER
        with_template = encode(stories, Example("a", around("", self.PROMPT, "</s>"), self.ANSWER), 256)
        assert with_template.input_ids.count(eos) == 2 and with_template.labels.count(eos) == 1

    def test_scoring_reads_what_training_reads(self, stories: Any) -> None:
        from taskdiv_assets.language_model.batching import tokenise
        from taskdiv_assets.language_model.tuning import Example, encode

        rows = tokenise(stories, [self.PROMPT, around("Q: ", self.PROMPT, "\n")], None).rows
        for row, prompt in zip(rows, (self.PROMPT, around("Q: ", self.PROMPT, "\n")), strict=True):
            trained = encode(stories, Example("a", prompt, self.ANSWER), 256)
            assert trained.input_ids[: trained.labels.count(-100)] == row.tolist()

    def test_benchmarks_read_items_as_text_and_what_a_task_writes_as_control_tokens(self, stories: Any) -> None:
        from lm_eval.api.instance import Instance

        from taskdiv_assets.benchmarks.encoding import Encoder

        def context(text: str, *written: str) -> list[int]:
            request = Instance("generate_until", {}, (text, {"until": ["\n"], "max_gen_toks": 5}), 0)
            return list(Encoder(stories, written=written).encode(request).question.context)

        bos, eos = stories.tokenizer.bos_token_id, stories.tokenizer.eos_token_id
        assert context("Q: red") == stories.tokenizer("Q: red")["input_ids"]
        items = context("<s>" + self.PROMPT)
        assert (items.count(bos), items.count(eos)) == (1, 0) and items[0] == bos
        own = context("<s>" + self.PROMPT, "<s>{{question}}")
        assert (own[0], own[1] == bos, own.count(eos)) == (bos, False, 0)
        asked = Instance("loglikelihood", {}, (self.PROMPT, self.ANSWER), 0)
        found = Encoder(stories).encode(asked).question
        assert eos not in (*found.context, *found.answer) and found.context.count(bos) == 1

    def test_lm_evals_own_loop_reads_the_same_tokens(self, stories: Any) -> None:
        from taskdiv_assets.benchmarks.encoding import Encoder

        harness = Encoder(stories).harness
        texts = [self.PROMPT, "Q: a longer question than the other one, to be padded on the left, so long"]
        ids, mask = harness.tok_batch_encode(texts, left_truncate_len=100)
        rows = [row[one.bool()].tolist() for row, one in zip(ids, mask, strict=True)]
        assert rows == [harness.tok_encode(text) for text in texts]
        assert not any(stories.tokenizer.eos_token_id in row for row in rows)


class TestPool:
    def test_tables_have_a_mark_where_the_pool_holds_a_token(self) -> None:
        from types import SimpleNamespace

        import pyarrow as pa

        from taskdiv_assets.graph.models import Held
        from taskdiv_assets.language_model.control_marks import SETTING, signs_in

        pool = pa.table({"prompt_id": ["a", "b", "c"], "prompt": ["x", "y</s>", "z"], "response": ["r", None, "<s>"]})

        def held(names: tuple[str, ...], **answers: str) -> Any:
            fake: Any = SimpleNamespace(
                control=lambda model=None: names, pool=lambda: pool, pool_signs=lambda column: signs_in(pool[column])
            )
            return Held(fake, lambda: {"a": "r", "b": None, "c": "<s>"} | answers)

        assert held(("</s>",)).mark() == SETTING and held(("</s>",)).pairs == {"b"}
        assert held(("<s>",)).mark() == {} and held(("<s>",)).mark(columns=("prompt", "response")) == SETTING
        assert held(("<s>", "</s>"), a="an <s>", c="none").pairs == {"a", "b"}, "the answer that counts"
        assert held(()).mark() == {} and held(()).pairs == set()

    def test_earlier_scores_are_kept_but_of_prompts_that_hold_a_token(
        self, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from types import SimpleNamespace

        import numpy as np

        from taskdiv_assets.services import scoring
        from taskdiv_assets.storage.store import Store

        monkeypatch.setenv("TASKDIV_HOME", str(tmp_path))
        models = SimpleNamespace(
            scorer=lambda source, tuned="": SimpleNamespace(identity="0" * 32), control=lambda model: ("</s>",)
        )
        work: Any = SimpleNamespace(store=Store("x"), lineage=SimpleNamespace(models=models), log=print)
        source: Any = SimpleNamespace(model=None)
        ids, prompts = ["0" * 15 + "1", "0" * 15 + "2"], ["red", "red </s>"]

        def scores() -> Any:
            return scoring.PromptScores(work, source, ids, prompts, "")

        def put(part: Any, name: str) -> None:
            import io

            import pyarrow.parquet as pq

            buffer = io.BytesIO()
            pq.write_table(part, buffer)
            work.store.put(buffer.getvalue(), "scores", "0" * 32, name)

        first = scores()
        for values in first.columns.values():
            values[:] = 1
        part = first.known(np.array([0, 1]), 1.0)
        put(part.replace_schema_metadata({scoring.SECONDS_KEY: "1.0"}), "earlier.parquet")
        assert scores().is_known.tolist() == [True, False]
        put(part.slice(1), "now.parquet")
        assert scores().is_known.tolist() == [True, True]
