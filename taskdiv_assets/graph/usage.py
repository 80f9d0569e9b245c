"""Conditions under which an experiment does not use an asset; nothing is computed that nothing reads."""

from __future__ import annotations

from taskdiv_assets.experiment import ADD_BASE_MODEL
from taskdiv_assets.experiment.benchmark_settings import asked
from taskdiv_assets.graph.asset import Unless
from taskdiv_assets.selection.strategies import READS_CONFIDENCE

NO_STRATEGY_READS_IT = (
    "none of the chosen strategies ({strategies}) reads {asset}; leave it out, or choose a strategy that does"
)
WITHOUT_BASE_MODEL = Unless(
    lambda experiment, _: experiment.base_model is None,
    "{asset} needs a base model, and {experiment} names none; " + ADD_BASE_MODEL.replace("{", "{{").replace("}", "}}"),
)
WITHOUT_BENCHMARK = Unless(
    lambda experiment, _: not any(asked(experiment.benchmarks)),
    "{asset} needs a benchmark, and {experiment} names none; add `benchmarks: [{{name: mmlu, sample: 1140}}]`",
)
WITHOUT_CONFIDENCE = Unless(lambda _, needs: not needs & READS_CONFIDENCE, NO_STRATEGY_READS_IT)
WITHOUT_EMBEDDINGS = Unless(lambda _, needs: "embeddings" not in needs, NO_STRATEGY_READS_IT)
WITHOUT_CANDIDATES = Unless(
    lambda experiment, _: experiment.tuning.candidates is None,
    "{experiment} names one learning rate; nothing has to be chosen",
)
