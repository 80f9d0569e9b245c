"""Texts on the provenance of the numbers: question, sources, completeness, and the commands that reproduce the page."""

from collections.abc import Iterable, Mapping

from pydantic import ValidationError

from data_contracts.footer import Footer
from reports import words
from reports.experiment_view import View, confidence_tables
from reports.lists.list_sentences import ALL_PROMPTS
from reports.results import Results

NOT_PROSE = ("Read from:", "yaml-language-server:")  # comments at the top of a file that are for programs
EXPECTED = "Expected:"  # start of the expectation
OTHERS_LISTED_N = 3
REASONS_LISTED_N = 6
RUNS_LISTED_N = 6  # if there are more runs, only the table of identities lists them


def question(experiment_text: str) -> tuple[str, str]:
    """Return the question and the expectation, both in full length, from the comments at the top of the experiment file.

    The expectation starts with "Expected:". The comments end before the first line that does not start with "#", or whose text
    starts with "Cost:" or "Run:".
    """
    lines: list[str] = []
    for line in experiment_text.splitlines():
        text = line.lstrip("# ").strip()
        if not line.startswith("#") or text.startswith(("Cost:", "Run:")):
            break
        if not text.startswith(NOT_PROSE):
            lines.append(text)
    text = " ".join(lines)
    asked, mark, expected = words.clean(text, len(text) + 1).partition(EXPECTED)
    return asked.strip(), (mark + expected).strip()


def rules_summary(results: Results) -> str:
    """Return one or two sentences on the results of all contract rules."""
    every = [rule for table in results.tables.values() for rule in table.footer.rules]
    if not every:
        return "No rule has been checked: no stored table has results of its contract."
    failed = sum(not rule.passed for rule in every)
    without = sum(not table.footer.rules for table in results.tables.values())
    tail = f" {words.count(without, 'table')} without results of any rule." if without else ""
    checks, stored = words.count(len(every), "check"), words.count(len(results.tables), "stored table")
    return f"{len(every) - failed:,} of {checks} on {stored} passed.{tail}"


def cells_summary(results: Results) -> str:
    """Return a sentence on the number of finished cells and, if any budgets are larger than the pool, a sentence on these."""
    if not results.cells:
        return "The experiment names no strategy or no budget: no cell is expected."
    done = sum(cell.status == "done" for cell in results.cells)
    above = ", ".join(f"{budget:,}" for budget in results.ignored_budgets)
    ignored = f" Budgets larger than the pool are ignored: {above}." if above else ""
    return f"{done} of {words.count(len(results.cells), 'expected cell')} done.{ignored}"


def facts(results: Results) -> list[tuple[str, str]]:
    """Return the facts on provenance: pairs of a name and a text."""
    experiment = results.experiment
    footers = [table.footer for table in results.tables.values()]
    made_with = [made_by(footer) for footer in footers]
    times = sorted(time for footer in footers for time in (footer.started_at, footer.finished_at) if time)
    runs = {footer.run_id for footer in footers if footer.run_id}
    redrawn = "one selection; seeds redraw training only"
    if experiment.purpose == "study":
        redrawn = "selection, initialisation and data order are redrawn with every seed"
    has_confidence = results.is_scored or any((asset, None) in results.tables for asset in confidence_tables())
    ordinary, full = (", ".join(map(str, own)) or "none" for own in (experiment.seeds, experiment.full_pool_seeds))
    dirty = any(one.dirty for one in made_with if one.commit)
    hardware = (f"{one.processor or one.platform}, {one.cores_n} cores, {one.gpu or 'no GPU'}" for one in made_with)
    versions = {f"{name} {version}" for one in made_with for name, version in one.versions.items()}
    return [
        ("Purpose", f"{words.clean(experiment.purpose, 40)}: {redrawn}"),
        ("Pool", _pool(results)),
        *_left_out(results),
        ("Strategies", words.listing([words.clean(name, 60) for name in experiment.strategies]) or "none"),
        ("Budgets", words.listing([f"{budget:,}" for budget in results.budgets]) or "none"),
        ("Base model", _base(results) if experiment.base_model else "none: the experiment file names none"),
        *([("Confidence", _settings(experiment.confidence))] if has_confidence else []),
        *([("Fine-tuning", _settings(experiment.tuning))] if experiment.base_model else []),
        *_learning_rate(results),
        *_other_versions(results),
        *([("Price", results.money.basis)] if results.money else []),
        *([("Seeds", f"{ordinary}; full pool: {full}")] if experiment.base_model else []),
        ("Commit", _distinct(one.commit for one in made_with) + (" (with uncommitted changes)" if dirty else "")),
        ("Hardware", _distinct(hardware)),
        ("Python", _distinct(one.python for one in made_with)),
        ("Versions", ", ".join(sorted(words.clean(version, 60) for version in versions)) or "not recorded"),
        ("Made", f"{words.clean(times[0], 40)} to {words.clean(times[-1], 40)}" if times else "not recorded"),
        (
            "Runs",
            _distinct(runs) if len(runs) <= RUNS_LISTED_N else f"{len(runs)} runs, listed with the identities below",
        ),
    ]


class Environment(View):
    """The machine and the software that produced a table."""

    python: str | None = None
    platform: str | None = None
    processor: str | None = None
    gpu: str | None = None
    cores_n: int | None = None
    commit: str | None = None
    dirty: bool | None = None
    versions: Mapping[str, str] = {}


def made_by(footer: Footer) -> Environment:
    """Return the environment that a footer records. If the record is not valid, all fields are empty."""
    try:
        return Environment.model_validate(footer.environment)
    except ValidationError:
        return Environment()


def _base(results: Results) -> str:
    model = results.footer_notes("base_model")
    said = _noted(model, "source", "revision", "dtype", "dtype_reason", "attention", "parameters_n")
    packed = model.get("unpacked_from")
    return (
        f"{said}; a quantised base, unpacked from a GGUF file (SHA-256 {words.clean(packed, 64)})" if packed else said
    )


def _pool(results: Results) -> str:
    notes = dict(results.footer_notes("raw_pool"))
    source = notes.get("source")
    if isinstance(source, str) and source.startswith("['") and source.endswith("']"):  # the repr of a list of paths
        notes["source"] = source[2:-2].replace("', '", " and ")
    said = _noted(notes, "source", "rows_read_n", "duplicates_n", "dropped_n", "responses_n")
    tasks = "no tasks" if set(results.task_sizes) == {ALL_PROMPTS} else words.count(len(results.task_sizes), "task")
    return f"{results.pool_n or 0:,} prompts, {tasks}; {said}"


def _left_out(results: Results) -> list[tuple[str, str]]:
    found = []
    for title, key in (("Dropped rows", "drops"), ("Repaired rows", "repairs")):
        reasons = results.footer_notes("raw_pool").get(key)
        if isinstance(reasons, Mapping) and reasons:
            said = [f"{_plain(n)} {words.clean(reason, 60)}" for reason, n in list(reasons.items())[:REASONS_LISTED_N]]
            found.append((title, words.listing(said)))
    return found


def _learning_rate(results: Results) -> list[tuple[str, str]]:
    notes = results.footer_notes("tuning_choice")
    if "learning_rate" not in notes:
        return []
    return [("Learning rate", f"{_plain(notes['learning_rate'])}, chosen: {words.clean(notes.get('why', ''), 400)}")]


def _other_versions(results: Results) -> list[tuple[str, str]]:
    """Return at most one fact: which adapters were reused although they had been trained with other library versions."""
    found = {
        f"{cell}, seed {seed}: {said}"
        for (asset, cell), table in results.tables.items()
        if asset == "adapter"
        for seed, said in dict(table.footer.notes.get("other_versions") or {}).items()
    }
    if not found:
        return []
    shown = "; ".join(words.clean(text, 200) for text in sorted(found)[:OTHERS_LISTED_N])
    more = f"; and {len(found) - OTHERS_LISTED_N} more" if len(found) > OTHERS_LISTED_N else ""
    return [("Trained with other versions", f"{shown}{more}")]


def commands(results: Results) -> list[tuple[str, str]]:
    """Return the commands that check and reproduce the page: pairs of a command and its meaning."""
    name = results.experiment.name
    return [
        (f"taskdiv plan {name}", "what is stored, what is missing, what it costs"),
        (f"taskdiv run {name}", "produces what is missing; finished cells are kept"),
        (f"taskdiv contracts check {name}", "checks every stored table again"),
        (f"taskdiv report {name}", "rebuilds this page from what is stored"),
        (f"taskdiv report {name} --output FOLDER", "writes this page, its tables, and its figures as SVG and PNG"),
    ]


def _distinct(values: Iterable[object]) -> str:
    return "; ".join(sorted({words.clean(value, 160) for value in values if value is not None})) or "not recorded"


def _noted(notes: Mapping[str, object], *names: str) -> str:
    pairs = [f"{name.removesuffix('_n').replace('_', ' ')} {_plain(notes[name])}" for name in names if name in notes]
    return ", ".join(pairs) or "not recorded"


def _settings(settings: Mapping[str, object]) -> str:
    pairs = (f"{words.clean(name, 60)} {_plain(value)}" for name, value in settings.items())
    return ", ".join(pairs) or "the defaults"


def _plain(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        named = (entry["name"] if isinstance(entry, Mapping) and "name" in entry else entry for entry in value)
        return words.clean(" and ".join(words.clean(name, 40) for name in named) or "none", 160)
    return words.clean("none" if value is None else value, 160)
