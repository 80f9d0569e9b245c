"""Asset `base_scores`: scores of the base model without an adapter. They are the lower reference line of the report."""

from taskdiv_assets.cards.facts import means_as_notes
from taskdiv_assets.cards.stored_cards import put_all_cards
from taskdiv_assets.graph.asset import HOLDS_7B, WITHOUT_BASE_MODEL, WITHOUT_BENCHMARK, Asset, Needs, Settings
from taskdiv_assets.graph.inputs import Inputs
from taskdiv_assets.graph.scoring_plan import CODE_VERSION
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.graph.work import Product, Work
from taskdiv_assets.services import benchmarking
from taskdiv_assets.services.benchmarking import item_counts, picture_scores, table_of_benchmarks


def make_base_scores(work: Work) -> Product:
    folders: dict[int | None, str] = {None: work.lineage.fresh(Unit("base_model")).identity}
    table = benchmarking.with_seeds(benchmarking.score_all(work, folders)[None], None, None)
    notes = {**benchmarking.notes_of(work, folders), "means": means_as_notes(table)}
    return Product(table.sort_by(benchmarking.ORDER), notes)


def base_scores_recipe(inputs: Inputs) -> Settings:
    inputs.of("base_model")
    return inputs.lineage.scoring.settings()


ASSET = Asset(
    name="base_scores",
    make=make_base_scores,
    reads=("base_model", "held_out_items"),
    recipe=base_scores_recipe,
    code_version=CODE_VERSION,
    description="The base model's own scores, item by item: the lower reference line.",
    needs=Needs(4, 24, 1, f"{HOLDS_7B}; every item of every benchmark"),
    unless=(WITHOUT_BASE_MODEL, WITHOUT_BENCHMARK),
    needs_answers=True,
    parameters=item_counts,
    kinds=frozenset({"pytorch", "lm-eval"}),
    picture=picture_scores,
    summary=table_of_benchmarks,
    afterwards=put_all_cards,
)
