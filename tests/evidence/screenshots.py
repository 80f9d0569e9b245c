"""Take the pictures of docs/DAGSTER.md, docs/dagster/*.png, by clicks in Chromium on a `dagster dev` with the demo's results.

Run: make screenshots     (first runs demo_quick in its own home, which takes some minutes; needs Chromium)
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import quote

import dagster as dg
from PIL import Image

from taskdiv_assets.orchestration import run_launcher as launcher
from tests import dagster_clicks as clicks
from tests.browser import chromium, tab
from tests.dagster_dev import Ui, dagster_dev
from tests.graphql import metadata, runs
from tests.home import Home
from tests.rotten import rotten_experiment

if TYPE_CHECKING:
    from playwright.sync_api import FloatRect, Locator, Page

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "dagster"
WIDTH, HEIGHT = 1600, 950  # of the window; tables of runs are cut in a narrower one
SHOWN_WIDTH, GRAPH_HEIGHT = 1280, 1180
PALETTE = Image.Quantize.MAXCOVERAGE  # a quarter of the bytes; by the default method a small red mark turns grey
LARGEST_BYTES, TOTAL_BYTES = 120_000, 900_000
BUDGET, STRATEGIES = "64", ("random", "weighted_task_diversity")
MARGIN = 12  # pixels beside a dialog that is cut out


class Camera:
    """The browser's page, and the pictures of it."""

    def __init__(self, page: Page, ui: Ui) -> None:
        self.page = page
        self.ui = ui
        self.url = ui.url

    def take(self, name: str, *, height: int = HEIGHT, of: Locator | None = None) -> None:
        """Save the visible page, or one element with a margin, as a small picture."""
        clip: FloatRect | None = None
        if of is not None:
            box = of.bounding_box()
            if box is None:
                raise ValueError(f"{name}: what it shows is not on the page")
            clip = {
                "x": box["x"] - MARGIN, "y": box["y"] - MARGIN,
                "width": box["width"] + 2 * MARGIN, "height": box["height"] + 2 * MARGIN,
            }  # fmt: skip
        elif height < HEIGHT:
            clip = {"x": 0, "y": 0, "width": WIDTH, "height": height}
        write_small(self.page.screenshot(clip=clip), PICTURES / f"{name}.png")
        print(f"{name}.png", flush=True)


def write_small(raw: bytes, path: Path) -> None:
    """Write a picture that is scaled to the page's width and has a palette.

    Raises:
        ValueError: the file is too large for a page of documentation.
    """
    image = Image.open(BytesIO(raw)).convert("RGB")
    image.thumbnail((SHOWN_WIDTH, SHOWN_WIDTH), Image.Resampling.LANCZOS)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.quantize(method=PALETTE, dither=Image.Dither.NONE).save(path, optimize=True)
    if path.stat().st_size > LARGEST_BYTES:
        raise ValueError(
            f"{path} has {path.stat().st_size:,} bytes; expected at most {LARGEST_BYTES:,}: show less of the page"
        )


def main() -> None:
    """Prepare three experiments, start the UI, click, and check the total size of the pictures."""
    with TemporaryDirectory(prefix="taskdiv-") as folder:
        home = Home(Path(folder))
        prepare(home)
        with dagster_dev(home) as ui, chromium() as browser:
            with tab(browser, width=SHOWN_WIDTH, height=GRAPH_HEIGHT) as opened:
                picture_graph(Camera(opened.page, ui))  # first: a finished experiment
            with tab(browser, width=WIDTH, height=HEIGHT) as opened:
                opened.page.set_default_timeout(clicks.SLOW_MS)
                picture_everything(Camera(opened.page, ui))
    total = sum(path.stat().st_size for path in PICTURES.glob("*.png"))
    if total > TOTAL_BYTES:
        raise ValueError(f"the pictures have {total:,} bytes together; expected at most {TOTAL_BYTES:,}")
    print(f"made: {PICTURES}, {total:,} bytes")


def prepare(home: Home) -> None:
    """Make the finished demo, `mine` (its file changed after its pool was labelled) and `restored` (its weights are damaged)."""
    mine = home.write_experiment("mine")
    for arguments in (("run", "demo_quick"), ("run", str(mine), "--until", "task_labels")):
        done = home.taskdiv(*arguments, timeout_s=1800)
        if done.returncode != 0:
            raise ValueError(f"taskdiv {' '.join(arguments)} failed: {done.stderr}")
    kept = home.folder / "results/mine/experiment.yaml"
    kept.write_text(kept.read_text().replace("reader: lab, seed: 1", "reader: lab, seed: 2"))
    rotten_experiment(home, "restored")


def picture_everything(camera: Camera) -> None:
    """Start the long steps first, and take their pictures last."""
    page, url = camera.page, camera.url
    for experiment, asset in (("restored", "base_model"), ("mine", "raw_pool")):
        clicks.open_asset(page, url, experiment, asset)
        clicks.materialise(page)
        clicks.launch_note(page).wait_for()
    picture_new_budget(camera)
    backfill = page.get_by_text("Created backfill").inner_text().split()[-1]
    picture_killed(camera, backfill)
    picture_results(camera)
    picture_trouble(camera)
    picture_backfill(camera, backfill)


def picture_new_budget(camera: Camera) -> None:
    """Take pictures of the dialog of the cells' job, click by click, until it launches a backfill."""
    page = camera.page
    clicks.open_job(page, camera.url, "demo_quick_cells")
    page.get_by_text("Latest event").first.wait_for()
    clicks.settled(page)
    camera.take("cells-job")
    clicks.materialise(page)
    clicks.name_partition(page, BUDGET)
    camera.take("budget-1-add", of=dialog(page))
    clicks.save_partition(page)
    clicks.unfold_budgets(page)
    clicks.seen(page, BUDGET).wait_for()
    camera.take("budget-2-tick", of=dialog(page))
    clicks.fold(page)
    clicks.choose_cells(page, BUDGET, STRATEGIES)
    camera.take("budget-3-launch", of=dialog(page))
    clicks.launch_backfill(page)


def picture_killed(camera: Camera, backfill: str) -> None:
    """Take a picture of the backfill's runs after the process of one run was killed, as happens if memory runs out."""
    started: list[str] = []
    while not started:
        time.sleep(1)
        of_backfill = runs(camera.ui, **{"dagster/backfill": backfill})
        started = [run.run_id for run in of_backfill if run.status == "STARTED"]
    time.sleep(8)  # into the middle of it
    with dg.DagsterInstance.from_config(camera.ui.home.variables()["DAGSTER_HOME"]) as instance:
        run = instance.get_run_by_id(started[0])
        process = launcher.process_of(instance, run) if run is not None else None
    if process is None:
        raise ValueError(f"run {started[0]} does not say which process carries it out")
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: is_seen_in(camera.page, f"{camera.url}/runs/b/{backfill}?tab=runs", "Re-execution"))
    camera.take("killed")


def dialog(page: Page) -> Locator:
    return page.get_by_role("dialog").filter(has_text="Launch runs to").first


def picture_results(camera: Camera) -> None:
    """Take pictures of the demo's results: an asset, a cell, a run with its progress, runs by tag."""
    page, url = camera.page, camera.url
    clicks.open_asset(page, url, "demo_quick", "raw_pool")
    camera.take("asset")
    clicks.open_cell(page, url, "demo_quick", "benchmark_scores", "128|random")
    camera.take("cell")
    page.goto(f"{url}/runs?{tagged('experiment=demo_quick', 'budget=256')}")
    page.get_by_role("link", name="View", exact=True).first.wait_for()
    clicks.settled(page)
    camera.take("tags", height=720)
    of_base = next(run for run in runs(camera.ui, experiment="demo_quick") if "base_model" in run.assets)
    page.goto(f"{url}/runs/{of_base.run_id}")
    clicks.settled(page)
    page.wait_for_timeout(2000)  # the steps' bars are drawn late
    page.get_by_placeholder("Filter…").fill("steps/s")
    page.get_by_text("steps/s").first.wait_for()
    clicks.settled(page)
    camera.take("run")


def picture_graph(camera: Camera) -> None:
    """Take a picture of the whole graph in another window, without the navigation."""
    page = camera.page
    page.goto(camera.url)
    page.get_by_role("button", name="Hide navigation").click(timeout=clicks.SLOW_MS)
    clicks.open_group(page, camera.url, "demo_quick")
    page.wait_for_timeout(15_000)  # the assets take their colours one after another
    camera.take("graph")


def tagged(*tags: str) -> str:
    """Return the part of an address that filters the page of runs."""
    return "&".join(f"{quote(f'q[{place}]')}={quote(f'tag:{tag}')}" for place, tag in enumerate(tags))


def picture_trouble(camera: Camera) -> None:
    """Take pictures of a failed check, and of an asset that was made from older inputs."""
    page, url = camera.page, camera.url
    until(lambda: is_seen_in(page, f"{url}/assets/restored/base_model?view=checks", "Failed"))
    clicks.seen(page, "hashes_equal_files").click()
    page.get_by_text("1 of 5 rows fail").wait_for()
    clicks.settled(page)
    camera.take("red-check")
    until(lambda: is_seen_in(page, f"{url}/assets/mine/task_labels", "Unsynced (1)"))
    clicks.seen(page, "Unsynced (1)").hover()
    page.wait_for_timeout(1500)
    camera.take("stale", height=520)


def picture_backfill(camera: Camera, backfill: str) -> None:
    """Take pictures of the finished backfill, and of the report that was then made automatically."""
    page, url = camera.page, camera.url
    until(lambda: is_seen_in(page, f"{url}/runs/b/{backfill}", "100% completed"))
    camera.take("backfill", height=420)
    until(lambda: f"**{BUDGET}**" in metadata(camera.ui, "demo_quick", "strategy_report")["cells"])
    clicks.open_asset(page, url, "demo_quick", "strategy_report")
    clicks.seen(page, "answer").wait_for()
    page.wait_for_timeout(1500)
    camera.take("report", height=770)
    clicks.open_asset(page, url, "demo_quick", "strategy_report", "automation")
    page.get_by_text("1 run").first.wait_for()
    page.wait_for_timeout(1500)  # signs come after words
    camera.take("automation", height=520)


def is_seen_in(page: Page, address: str, text: str) -> bool:
    """Open a page, and return whether a text is visible."""
    page.goto(address)
    clicks.settled(page)
    return clicks.seen(page, text).is_visible()


def until(condition: Callable[[], bool], timeout_s: float = 600) -> None:
    """Poll a condition every few seconds.

    Raises:
        TimeoutError: the condition stayed false.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {timeout_s:.0f} s the page still did not show what the picture is of")
        time.sleep(3)


if __name__ == "__main__":
    main()
