"""The identities of items, questions, outputs and scores on each benchmark."""

from collections.abc import Callable, Mapping

from data_contracts.footer import Footer
from taskdiv_assets.benchmarks import holds, settings_identity
from taskdiv_assets.benchmarks.alpaca import identities
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.experiment.benchmark_settings import (
    AlpacaEvalBenchmark,
    Benchmark,
    HeldOutBenchmark,
    LabBenchmark,
    Written,
    asked,
)
from taskdiv_assets.graph.models import Models, Padding
from taskdiv_assets.graph.units import StaleInputError
from taskdiv_assets.language_model.control_marks import SETTING
from taskdiv_assets.language_model.texts import without_start
from taskdiv_assets.storage.identity import identity

SCORES = frozenset({"base_scores", "benchmark_scores"})  # assets with scores on benchmarks
CODE_VERSION = 2  # code version of benchmark_scores and base_scores


class ScoringPlan:
    """The identities of scores, questions and outputs for one experiment."""

    def __init__(self, experiment: Experiment, models: Models, held_out: Callable[[], Footer]) -> None:
        self.experiment, self.models = experiment, models
        self._held_out = held_out  # returns the footer of the fresh table held_out_items
        self._settings: dict[Benchmark, Mapping[str, object]] = {}
        self._items: dict[Benchmark, Mapping[str, object]] = {}
        self._outputs: dict[AlpacaEvalBenchmark, Mapping[str, object]] = {}

    def settings(self) -> dict[str, object]:
        """Return, for each benchmark to run, the settings that determine its scores, except the model and the adapter."""
        return {str(i): self.settings_of(item) for i, item in enumerate(self.asked())}

    def asked(self) -> list[Benchmark]:
        """Return the benchmarks to score now. `held_out` is left out while none of its items has an answer.

        Raises:
            StaleInputError: nothing can be scored before answers to held-out items are imported, or the table held_out_items is
                needed and not fresh.
        """
        found = self._answered()
        if not found:
            name = self.experiment.name
            raise StaleInputError(
                f"none of the items of `held_out` has an answer yet, and {name} has no other benchmark; "
                f"`taskdiv annotations export {name} --held-out` writes them to a file, and `taskdiv annotations import` "
                "brings the answers back"
            )
        return found

    @property
    def is_waiting(self) -> bool:
        """True if the held-out items are known, and nothing can be scored before answers to them are imported."""
        try:
            return self.experiment.has_later_answers and not self._answered()
        except StaleInputError:
            return False

    def _answered(self) -> list[Benchmark]:
        has_later, every = self.experiment.has_later_answers, asked(self.experiment.benchmarks)
        if variant := self.experiment.variant:
            every = (one for one in every if one.name == variant.benchmark)
        is_open = has_later and "items" not in self._held_out().parts
        return [one for one in every if not (is_open and isinstance(one, HeldOutBenchmark))]

    def settings_of(self, benchmark: Benchmark) -> Mapping[str, object]:
        if benchmark not in self._settings:
            if isinstance(benchmark, AlpacaEvalBenchmark):
                self._settings[benchmark] = {**self._of_outputs(benchmark), **identities.verdicts(benchmark)}
            elif isinstance(benchmark, HeldOutBenchmark):
                own: dict[str, object] = {"name": benchmark.name, "items": self._held_out().parts["items"]}
                own |= {"template": self._template, "max_length": self.experiment.tuning.max_length}
                if benchmark.generated is not None:
                    own["generated"] = benchmark.generated.model_dump(mode="json")
                self._settings[benchmark] = {**own, **self._of_base(benchmark)}
            else:
                own = {**self._of_items(benchmark)}
                own |= {"template": self._template} if isinstance(benchmark, LabBenchmark) else {}
                self._settings[benchmark] = {**own, **self._of_base(benchmark)}
        return self._settings[benchmark]

    def settings_of_items(self) -> dict[str, object]:
        """Return, for each benchmark to run, settings that determine its items. No model is needed.

        For `held_out`, these are not enough: its items depend on the pool.
        """
        return {str(i): self._of_items(item) for i, item in enumerate(asked(self.experiment.benchmarks))}

    def _of_items(self, benchmark: Benchmark) -> Mapping[str, object]:
        if benchmark not in self._items:
            self._items[benchmark] = {"name": benchmark.name}
            if isinstance(benchmark, AlpacaEvalBenchmark):
                self._items[benchmark] = identities.instructions(benchmark)
            elif not isinstance(benchmark, HeldOutBenchmark):
                self._items[benchmark] = settings_identity(benchmark, pool=self.experiment.pool)
        return self._items[benchmark]

    def _of_outputs(self, benchmark: AlpacaEvalBenchmark) -> Mapping[str, object]:
        if benchmark not in self._outputs:
            of_base = self._of_base(benchmark)
            self._outputs[benchmark] = {**identities.outputs(benchmark, self._template), **of_base}
        return self._outputs[benchmark]

    def _of_base(self, benchmark: Benchmark) -> dict[str, object]:
        """Return settings for deviations of the base model (`Models.marks`, `Models.batching`), and one for special tokens.

        The last one is set if a local source of the benchmark contains the text of a special token. The result is often {}.
        """
        marks: dict[str, object] = {"reading": self.models.marks} if self.models.marks else {}
        names = self.models.control()
        held = SETTING if names and holds(benchmark, names) else {}
        is_written = isinstance(benchmark, Written | AlpacaEvalBenchmark)  # prompts share a prefix, padding follows it
        is_written |= isinstance(benchmark, HeldOutBenchmark) and benchmark.generated is not None
        paddings: tuple[Padding, ...] = ("gap", "left", "right") if is_written else ("left", "right")
        return {**marks, **self.models.batching(*paddings), **held}

    def scores(self, adapter: str, benchmark: Benchmark) -> str:
        """Return the identity of the scores of one adapter, or of the base model, on one benchmark."""
        return identity("scores", CODE_VERSION, self.settings_of(benchmark), {"adapter": adapter})

    def questions(self, benchmark: Benchmark) -> str:
        """Return the identity of a benchmark's questions, which all adapters share."""
        return identity("questions", CODE_VERSION, self.settings_of(benchmark), {})

    def outputs(self, adapter: str, benchmark: AlpacaEvalBenchmark) -> str:
        """Return the identity of one adapter's outputs on AlpacaEval, which does not depend on the judge."""
        return identity("outputs", CODE_VERSION, self._of_outputs(benchmark), {"adapter": adapter})

    @property
    def _template(self) -> str:
        template = without_start(self.experiment.prompt_template, self.models.start)
        return f"chat template of the base: {template}" if self.experiment.chat_template else template
