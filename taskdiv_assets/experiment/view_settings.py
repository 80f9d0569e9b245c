"""Settings of the view of found tasks: the numbers by which prompts are compared (`view` of the section `task_labels`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Discriminator, Field, Tag, model_validator

from taskdiv_assets.tuning_settings import Settings

WORDS: Literal["words"] = "words"
# View → asset with its vectors. The other views need no asset: `words` reads the texts, and `file` reads the user's file.
VECTOR_ASSETS: Mapping[str, str] = {
    "embeddings": "prompt_embeddings",
    "template": "template_embeddings",
    "sentence_embedder": "sentence_embeddings",
}
OF_BASE_MODEL = ("embeddings", "template")  # views that read the base model


def _is_none(value: object) -> bool:
    return value is None


class EmbedderSource(Settings):
    """The source of a sentence embedder in the format of sentence-transformers: a local folder or a hub repository."""

    path: Annotated[str, Field(min_length=1)] | None = None
    hub: str | None = None
    revision: str | None = None

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if (self.path is None) == (self.hub is None):
            raise ValueError("expected exactly one of `path: folder` or `hub: owner/name` (with `revision`)")
        if self.hub and not self.revision:
            raise ValueError("`hub` needs `revision`: a commit of the model, so that results can be reproduced")
        if self.path and "://" in self.path:
            raise ValueError(
                f"expected a local folder, found {self.path!r:.100}; copy the model to a disk, or use `hub`"
            )
        return self


PlainView: TypeAlias = Literal["words", "embeddings", "template"]


def _form(value: Any) -> str:
    return "section" if isinstance(value, dict | ViewSection) else "name"


class ViewSection(Settings):
    """A view that needs a name of a model or of a file, or a mix of views. Exactly one of the keys is set.

    Attributes:
        sentence_embedder: a sentence embedder; its vectors of the prompts are compared.
        file: the user's own Parquet file, which has an id and a list of numbers in each row.
        mix: several views with equal weights (see `pools.discovery.vector_views.mixed`), each kind once, in any order.
    """

    sentence_embedder: EmbedderSource | None = Field(default=None, exclude_if=_is_none)
    file: Annotated[str, Field(min_length=1)] | None = Field(default=None, exclude_if=_is_none)
    mix: Annotated[tuple[View, ...], Field(min_length=2, max_length=5)] | None = Field(
        default=None, exclude_if=_is_none
    )

    @model_validator(mode="after")
    def _has_one_kind(self) -> Self:
        if sum(one is not None for one in (self.sentence_embedder, self.file, self.mix)) != 1:
            raise ValueError("expected exactly one of `sentence_embedder`, `file` and `mix`")
        return self

    @model_validator(mode="after")
    def _mixes_distinct_views(self) -> Self:
        names = [_name_of(view) for view in self.mix or ()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"the view {twice[0]!r} occurs twice; a mix has each kind of view once")
        if "mix" in names:
            raise ValueError("a mix has no mix inside; list its views instead")
        return self


View: TypeAlias = Annotated[
    Annotated[PlainView, Tag("name")] | Annotated[ViewSection, Tag("section")],
    Discriminator(_form),  # so that an error has one message
]
ViewSection.model_rebuild()


def singles(view: View) -> dict[str, View]:
    """Return the views that a view consists of, by name. They are sorted by name, so the order in a mix has no effect.

    >>> list(singles(ViewSection(mix=("words", ViewSection(file="vectors.parquet"), "embeddings"))))
    ['embeddings', 'file', 'words']
    """
    mix = view.mix if isinstance(view, ViewSection) else None
    return dict(sorted((_name_of(one), one) for one in mix or (view,)))


def _name_of(view: View) -> str:
    if isinstance(view, str):
        return view
    return "sentence_embedder" if view.sentence_embedder else "file" if view.file else "mix"
