"""Settings of the sections `pool` and `task_labels` of an experiment file. The package `pools` reads the files that they name."""

from __future__ import annotations

import codecs
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from taskdiv_assets.experiment.view_settings import WORDS, EmbedderSource, View, ViewSection, singles
from taskdiv_assets.tuning_settings import PositiveInt, Seed, Settings

USUAL_ENCODINGS = ("utf-8", "cp1252", "latin-1", "utf-16", "cp1251", "shift_jis", "gb18030")
NO_FILE_ENCODINGS = frozenset({"idna", "punycode", "undefined", "mbcs", "oem", "unicode-escape", "raw-unicode-escape"})
DISCOVERED = "discovered"
RULES_MAX = 200
FOUND_TASKS_MAX = 1_000
SEPARATOR_NAMES = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}


def _is_none(value: object) -> bool:
    return value is None  # None is left out of identities, so results that are older than the setting stay valid


class Columns(Settings):
    """The columns of a user's file.

    Attributes:
        prompt: a column, a list of columns that are joined by blank lines, or a template such as "{instruction} {input}".
        messages: a column of conversations in the format of OpenAI or ShareGPT, which give prompts and answers.
    """

    prompt: str | Annotated[list[str], Field(min_length=1)] | None = None
    messages: str | None = Field(default=None, exclude_if=_is_none)
    response: str | None = None
    task: str | None = None
    id: str | None = None

    @model_validator(mode="after")
    def _has_one_source_of_prompts(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("expected either `prompt: COLUMN` or `messages: COLUMN` (conversations)")
        if self.messages is not None and self.response is not None:
            raise ValueError("the answer of a conversation is its last turn; remove `response` or `messages`")
        if isinstance(self.prompt, list) and len(set(self.prompt)) < len(self.prompt):
            raise ValueError("`prompt` names a column twice")
        return self


class Pool(Settings):
    """The source of the prompts. Only `reader: lab` uses `seed`, `tasks`, `largest_n` and `smallest_n`.

    Attributes:
        encoding: encoding of text files; UTF-8 by default.
        separator: separator of CSV files; by default, it is found in the first lines.
        escape: character before a quote inside quotes in CSV: a backslash, or a quote for doubled quotes. By default, a file in
            which both are possible raises an error.
        sheet: sheet of a workbook; the first sheet by default.
        split: split of a data set that has several splits.
        turns: rows of a conversation: one row for the last turn of the assistant, or one row for every turn of the assistant.
        duplicates: keep or drop rows that repeat a prompt. By default, a campaign drops them, unless the reader is `lab`; a study
            keeps them.
        limit: number of rows; the first rows are used.
        sample: number of rows, which are chosen by a hash from the whole source.
    """

    reader: Literal["lab", "dolly", "t0", "flan", "table"]
    path: str | list[str] | None = None
    hub: str | None = None
    revision: str | None = None
    split: str = "train"
    encoding: str | None = Field(default=None, exclude_if=_is_none)
    separator: Annotated[str, Field(min_length=1)] | None = Field(default=None, exclude_if=_is_none)
    escape: Literal["\\", '"'] | None = Field(default=None, exclude_if=_is_none)
    sheet: str | None = Field(default=None, exclude_if=_is_none)
    turns: Literal["last", "all"] = Field(default="last", exclude_if=lambda value: value == "last")
    columns: Columns | None = None
    duplicates: Literal["keep", "drop"] | None = None
    limit: PositiveInt | None = Field(default=None, exclude_if=_is_none)
    sample: PositiveInt | None = None
    seed: Seed = 1
    tasks: list[str] | None = None
    largest_n: PositiveInt = 600
    smallest_n: PositiveInt = 24

    @field_validator("encoding")
    @classmethod
    def _is_encoding(cls, name: str | None) -> str | None:
        if name is None:
            return None
        try:
            found = codecs.lookup(name)
        except (LookupError, ValueError):
            found = None
        if found is None or found.name in NO_FILE_ENCODINGS or not getattr(found, "_is_text_encoding", True):
            raise ValueError(f"there is no encoding {name!r}; expected a name such as {', '.join(USUAL_ENCODINGS)}")
        return name

    @field_validator("separator", mode="before")
    @classmethod
    def _is_separator(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        found = SEPARATOR_NAMES.get(value.lower(), value)
        if len(found) != 1 or not found.isascii() or found.isalnum() or found in '"\\\r\n':
            raise ValueError(
                f"expected one character such as ; or a name ({', '.join(SEPARATOR_NAMES)}), found {value!r:.40}"
            )
        return found

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if self.reader == "lab":
            if self.path or self.hub or self.limit:
                raise ValueError("reader `lab` makes its own pool: remove `path`, `hub` and `limit`")
            return self
        if (self.path is None) == (self.hub is None):
            raise ValueError(f"reader `{self.reader}` needs either `path` or `hub` (with `revision`)")
        if self.hub and not self.revision:
            raise ValueError("`hub` needs `revision`: a commit of the data set, so that the pool is the same next year")
        if self.reader == "table" and self.columns is None:
            raise ValueError("reader `table` needs `columns`, at least `columns: {prompt: …}`")
        return self

    @model_validator(mode="after")
    def _fits_its_reader(self) -> Self:
        columns = self.columns
        if self.reader != "table" and columns is not None and not isinstance(columns.prompt, str):
            raise ValueError(f"reader `{self.reader}` takes one column as `prompt`; use `reader: table`")
        if self.turns == "all" and (columns is None or columns.messages is None):
            raise ValueError("`turns` is for conversations: add `columns: {messages: COLUMN}` or remove it")
        if self.limit is not None and self.sample is not None:
            raise ValueError("`limit` takes the first rows, `sample` rows from everywhere; keep one of them")
        if self.hub and any((self.encoding, self.separator, self.escape, self.sheet)):
            raise ValueError("`encoding`, `separator`, `escape` and `sheet` are for files; with `hub`, remove them")
        return self


class TaskRule(Settings):
    """One rule of `from: rules`: the task of each prompt that it matches. Upper and lower case are equal.

    Only the start of a long prompt is searched (see `pools.discovery.task_rules`).

    Attributes:
        task: name of the task; several rules may name the same task.
        pattern: regular expression (of the package `regex`) that matches somewhere in the prompt.
        keywords: words or phrases, of which one is in the prompt. A keyword matches whole words only, except in scripts without
            blanks between words, such as Chinese.
    """

    task: Annotated[str, Field(min_length=1, max_length=100, pattern=r"\S")]
    pattern: Annotated[str, Field(min_length=1, max_length=1_000)] | None = Field(default=None, exclude_if=_is_none)
    keywords: (
        Annotated[list[Annotated[str, Field(pattern=r"\S", max_length=100)]], Field(min_length=1, max_length=100)]
        | None
    ) = Field(default=None, exclude_if=_is_none)

    @field_validator("pattern")
    @classmethod
    def _is_pattern(cls, pattern: str | None) -> str | None:
        import regex

        try:
            regex.compile(pattern or "")
        except regex.error as error:
            raise ValueError(f"{pattern!r:.80} is not a regular expression: {error}") from None
        return pattern

    @model_validator(mode="after")
    def _has_one_kind(self) -> Self:
        if (self.pattern is None) == (self.keywords is None):
            raise ValueError("a rule needs either `pattern: EXPRESSION` or `keywords: [WORD, …]`")
        return self


class TaskLabels(Settings):
    """The source of tasks: the task column of the pool's own file or data set, a separate mapping file, rules, or discovery.

    Rules are the user's: words or patterns in the text. Discovery groups prompts of similar wording.

    Attributes:
        key: column of the mapping file with prompt ids, ids of the source, or tasks of the source. By default, the column
            `prompt_id` or `source_task`.
        task: column of the mapping file with the task; `task` by default.
        rules: rules of `from: rules`; the first rule that matches a prompt gives its task.
        rest: task of the prompts that no rule matches; `discovered` (the default) finds tasks among them.
        tasks: number of tasks to look for. By default, it follows from the pool and the smallest budget
            (`found_tasks.tasks_by_rule`).
        view: how the prompts are compared: by their words, by vectors of a model, by the user's own vectors, or by a mix.
        level: column of the pool's own file with a coarser task of each prompt, such as the category of its task. Its values are
            then the tasks. By default, the tasks are those of `columns: {task: …}`.
        missing: what prompts without a task in the column or file get: the task for which the nearest labelled prompts vote, or,
            with `discovered`, a found task where the votes are divided. By default, such a prompt is an error for strategies
            that read tasks.
    """

    source: Literal["column", "mapping", "rules", "discovered"] = Field(alias="from", default="column")
    path: str | None = None
    key: str | None = Field(default=None, exclude_if=_is_none)
    task: str | None = Field(default=None, exclude_if=_is_none)
    rules: Annotated[tuple[TaskRule, ...], Field(min_length=1, max_length=RULES_MAX)] | None = Field(
        default=None, exclude_if=_is_none
    )
    rest: Annotated[str, Field(min_length=1, max_length=100, pattern=r"\S")] = Field(
        default=DISCOVERED, exclude_if=lambda value: value == DISCOVERED
    )
    tasks: Annotated[int, Field(ge=2, le=FOUND_TASKS_MAX, strict=True)] | None = Field(
        default=None, exclude_if=_is_none
    )
    view: View = Field(default=WORDS, exclude_if=lambda value: value == WORDS)

    @property
    def views(self) -> dict[str, View]:
        """The views that are used to find tasks, by name; {} if no tasks are found."""
        return singles(self.view) if self.finds_tasks else {}

    @property
    def embedder(self) -> EmbedderSource | None:
        """The sentence embedder by which tasks are found; None if there is none."""
        view = self.views.get("sentence_embedder")
        return view.sentence_embedder if isinstance(view, ViewSection) else None

    @property
    def view_file(self) -> str | None:
        """The path of the user's own embeddings by which tasks are found; None if there is none."""
        view = self.views.get("file")
        return view.file if isinstance(view, ViewSection) else None

    @property
    def view_name(self) -> str:
        """The names of the views, such as `embeddings + words`."""
        return " + ".join(singles(self.view))

    level: Annotated[str, Field(min_length=1)] | None = Field(default=None, exclude_if=_is_none)
    missing: Literal["nearest", "discovered"] | None = Field(default=None, exclude_if=_is_none)

    @property
    def finds_tasks(self) -> bool:
        """True if tasks are found among all prompts, those that no rule matches, or those without a clear vote."""
        is_rest = self.source == "rules" and self.rest == DISCOVERED
        return self.source == DISCOVERED or is_rest or self.missing == DISCOVERED

    @property
    def guesses_tasks(self) -> bool:
        """True if the texts of prompts decide tasks, other than by rules: tasks are found, or given by votes."""
        return self.finds_tasks or self.missing is not None

    @model_validator(mode="after")
    def _fits_its_source(self) -> Self:
        if (self.source == "mapping") != (self.path is not None):
            raise ValueError("`from: mapping` needs `path`, and the other sources of tasks have none")
        if self.source != "mapping" and (self.key or self.task):
            raise ValueError("`key` and `task` name columns of a mapping file: add `from: mapping` and `path`")
        if (self.source == "rules") != (self.rules is not None):
            raise ValueError(
                "`from: rules` needs `rules: [{task: NAME, pattern: EXPRESSION}]`, and others have no rules"
            )
        if self.source != "rules" and self.rest != DISCOVERED:
            raise ValueError("`rest` is the task of prompts that no rule matches: add `from: rules` or remove it")
        if self.level is not None and self.source != "column":
            raise ValueError("`level` is a column of the pool's own file: use `from: column`, or remove it")
        if self.missing is not None and self.source not in ("column", "mapping"):
            raise ValueError(
                "`missing` is for prompts without a task in a column or file: use `from: column` or `mapping`"
            )
        if self.tasks is not None and not self.finds_tasks:
            raise ValueError("`tasks` is the number of tasks to find: use `from: discovered`, or remove it")
        if self.view != WORDS and not self.finds_tasks:
            raise ValueError("`view` is for the search for tasks: use `from: discovered`, or remove it")
        return self
