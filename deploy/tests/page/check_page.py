"""Opens the live page of a real learner in Chromium.

Records arrive and are those of metrics.jsonl, charts have points, the player shows the steps of the recording and ends
at the goal, nothing is requested elsewhere, and no error is logged. It also works below a proxy's path prefix, and
connects again after a restart of the learner. With `--pictures FOLDER` it writes pictures of the page.

    cargo build --workspace --bins
    python3 -m deploy.tests.page.check_page --bin-dir target/debug
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, Route

from .. import command_line
from ..observability.processes import Process, free_ports
from ..waiting import Failure, until
from .browser import Watched, chromium
from .proxy import Proxy

TEST = "check_page"
# A limit for a test that hangs, and the time between two looks.
PATIENCE = 300
PAUSE = 0.25
# A maze of six cells, in which an untrained agent reaches some goals.
SETTINGS = {
    "env.maze": "random-maze",
    "env.rows": "2",
    "env.cols": "3",
    "env.fixed_walls": "1",
    "env.doors": "3",
    "env.max_steps": "40",
    "model.hidden": "8",
    "model.inter_multiple": "8",
    "rollout.envs": "16",
    "rollout.unroll_length": "16",
    "learner.listen": "127.0.0.1:0",
    "learner.metrics_listen": "",
    "learner.local_actors": "1",
    "learner.batch_unrolls": "1",
    "learner.total_frames": "1000000000",
    "learner.max_minutes": "0",
    "learner.farewell_seconds": "0",
    "eval.interval_frames": "4096",
    "eval.episodes": "24",
    "telemetry.log_interval_seconds": "1",
    "run.name": "page-test",
}
WIDTHS = {"wide": 1280, "narrow": 390}


class Learner:
    """A learner with a live page on a fixed port."""

    def __init__(self, program: Path, folder: Path) -> None:
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}/"
        self.run = folder / "run"
        settings = SETTINGS | {"learner.web_listen": f"127.0.0.1:{port}", "run.dir": str(self.run)}
        given = [argument for key, value in settings.items() for argument in ("--set", f"{key}={value}")]
        self.command = [str(program), "train", "--resume", *given]
        self.folder = folder
        self.process: Process | None = None

    def start(self) -> None:
        """Starts or restarts it, and returns once it serves its page."""
        process = self.process = Process("learner", self.command, self.folder)
        said = f"watch the run at {self.url}"
        self.wait("the learner serves its page", lambda: said in process.log.read_text("utf-8"))

    def wait(self, what: str, condition: Callable[[], object]) -> None:
        """Waits for a condition while it runs."""
        until(what, condition, PATIENCE, TEST, PAUSE, self.process.check)

    def stop(self) -> None:
        """Stops it."""
        if self.process:
            self.process.stop()

    def records(self) -> list[dict[str, Any]]:
        """The records of the run so far."""
        text = (self.run / "metrics.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]


def wait(what: str, page: Page, condition: str, learner: Learner) -> None:
    """Waits until an expression holds in the page, while the learner runs."""
    learner.wait(what, lambda: page.evaluate(condition))


def faults_of_records(page: Page, learner: Learner) -> Iterator[str]:
    """Yields differences between the page's records and the file's."""
    shown = page.evaluate("[...hrmPage.records, ...hrmPage.evaluations].map(({kind, frames}) => [kind, frames])")
    written = [[record["kind"], record["frames"]] for record in learner.records()]
    missing = [record for record in shown if record not in written]
    if missing or len(shown) < 4:
        yield f"records {missing} of {len(shown)} on the page are not in metrics.jsonl"
    counts = page.evaluate("Object.fromEntries([...document.querySelectorAll('.chart')].map((chart) => "
                           "[chart.querySelector('strong').textContent, +chart.querySelector('svg').dataset.points]))")
    for title, points in counts.items():
        if points < 1:
            yield f"the chart {title!r} has no point"
    if len(counts) != 8:
        yield f"{len(counts)} charts"
    lines = page.evaluate("document.querySelectorAll('.chart polyline').length")
    if lines < 3:
        yield f"the charts have {lines} lines"
    for text in page.locator("#figures dd").all_inner_texts()[-4:]:
        if not any(character.isdigit() for character in text):
            yield f"a figure is {text!r}"


def faults_of_stages(page: Page) -> Iterator[str]:
    """Yields differences between a chart's layers and the stages of its points, which are not the same for all."""
    layers = page.evaluate("""() => {
        const parent = document.createElement("div");
        document.body.append(parent);
        const chart = hrmChart(parent, { title: "stages", top: 1, stack: (point) => point.stages });
        const points = [
            { frames: 1, stages: [["wait", 0.25], ["step", 0.75]] },
            { frames: 2, stages: [["encode", 1]] },
        ];
        chart.draw(points, "frames");
        const layers = [...parent.querySelectorAll("polygon")].map((layer) => layer.getAttribute("class"));
        parent.remove();
        return layers;
    }""")
    if layers != ["stage-wait", "stage-step", "stage-encode"]:
        yield f"points with other stages have the layers {layers}"


def faults_of_player(page: Page) -> Iterator[str]:
    """Yields differences between the player and the recording that the learner serves."""
    # One call, so that no new recording replaces the player in between.
    walked, label = page.evaluate("""() => {
        const centre = (name) => {
            const circle = document.querySelector(`.hrm-replay circle.${name}`);
            return ["cx", "cy"].map((key) => circle.getAttribute(key)).join();
        };
        const { player, recording } = hrmPage;
        const label = document.getElementById("evaluated").textContent;
        const labelled = label.endsWith(` frame ${recording.frames.toLocaleString("en")}.`);
        const walked = recording.episodes.map(({ walks: [walk] }, number) => {
            player.show(number, 0);
            const [length, goal] = [player.length, centre("goal")];
            player.show(number, length);
            return { outcome: walk.outcome, steps: walk.steps.length, length, atGoal: centre("agent") === goal };
        });
        return [walked, labelled ? null : label];
    }""")
    if label:
        yield f"the recording of other frames is labelled {label!r}"
    if len(walked) != 12:
        yield f"the recording has {len(walked)} episodes"
    successes = 0
    for number, walk in enumerate(walked):
        if walk["length"] != walk["steps"]:
            yield f"episode {number} has {walk['length']} steps in the player and {walk['steps']} in the recording"
        if walk["atGoal"] != (walk["outcome"] == "goal"):
            there = "" if walk["atGoal"] else "not "
            yield f"episode {number} ends with {walk['outcome']}, and the agent is {there}at the goal"
        successes += walk["atGoal"]
    if not successes:
        yield "no episode reaches its goal"


def faults_after_a_lost_recording(watched: Watched, learner: Learner) -> Iterator[str]:
    """Yields faults of a page whose first request for a new recording fails."""
    page = watched.page
    lost: list[str] = []

    def lose_the_first(route: Route) -> None:
        if lost:
            route.continue_()
        else:
            lost.append(route.request.url)
            route.abort()

    # A request that was on its way before may still succeed.
    with page.expect_event("requestfailed", lambda request: request.url.endswith("/recording.json")):
        page.route("**/recording.json", lose_the_first)
    before = page.evaluate("hrmPage.recording.frames")
    wait("a recording arrives after one was lost", page, f"hrmPage.recording.frames > {before}", learner)
    page.unroute("**/recording.json")
    # Chromium itself logs the lost request.
    yield from (f"console: {error}" for error in watched.errors if "Failed to load resource" not in error)


def take_pictures(browser: Browser, learner: Learner, folder: Path) -> Iterator[str]:
    """Writes pictures in light and dark, wide and narrow. Yields the pictures that are wider than the window."""
    folder.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        for name, width in WIDTHS.items():
            watched = Watched(browser, learner.url, color_scheme=scheme, viewport={"width": width, "height": 900})
            wait(f"the {name} page in {scheme} has an episode", watched.page, READY, learner)
            watched.page.evaluate("hrmPage.player.show(0, 3)")
            watched.page.screenshot(path=folder / f"page-{scheme}-{name}.png", full_page=True)
            wider = watched.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            if wider > 0:
                yield f"the {name} page in {scheme} is {wider} pixels wider than the window"
            yield from watched.faults()
            watched.close()


READY = "window.hrmPage.recording && hrmPage.records.length >= 3 && hrmPage.evaluations.length >= 2"
SUCCEEDS = "hrmPage.recording.episodes.some((episode) => episode.walks[0].outcome === 'goal')"


def check(browser: Browser, learner: Learner, pictures: Path) -> Iterator[str]:
    """Yields everything that is wrong with the page of a learner."""
    direct = Watched(browser, learner.url)
    wait("records and episodes arrive", direct.page, f"{READY} && {SUCCEEDS}", learner)
    yield from faults_of_records(direct.page, learner)
    yield from faults_of_stages(direct.page)
    yield from faults_of_player(direct.page)
    if (phase := direct.page.inner_text("#phase")) != "training":
        yield f"the run is {phase!r}"
    if not (left := direct.page.inner_text("#left")).endswith(" left"):
        yield f"the time left is {left!r}"
    yield from direct.faults()

    proxy = Proxy(learner.url.removeprefix("http://").rstrip("/"), "/some/prefix/")
    prefixed = Watched(browser, proxy.url)
    wait("records and episodes arrive through a proxy", prefixed.page, READY, learner)
    yield from prefixed.faults()
    prefixed.close()
    proxy.stop()
    yield from take_pictures(browser, learner, pictures)

    yield from faults_after_a_lost_recording(direct, learner)
    before, start = direct.page.evaluate("[hrmPage.records[0].frames, hrmPage.recording.start]")
    learner.stop()
    ended = "document.getElementById('phase').textContent === 'stopped; the learner has ended'"
    until("the page says that the learner has ended", lambda: direct.page.evaluate(ended), PATIENCE, TEST, PAUSE)
    learner.start()
    again = "document.getElementById('phase').textContent === 'training'"
    wait("the page follows the restarted learner", direct.page, f"{again} && hrmPage.records.length >= 3", learner)
    if direct.page.evaluate("hrmPage.records[0].frames") != before:
        yield "the history of the restarted learner begins elsewhere"
    if direct.page.evaluate(f"hrmPage.recording && hrmPage.recording.start === {start}"):
        yield "the player has a recording of the learner before its restart"
    recorded = f"hrmPage.recording && hrmPage.recording.start !== {start} && {SUCCEEDS}"
    wait("the restarted learner's episodes arrive", direct.page, recorded, learner)
    yield from faults_of_player(direct.page)
    direct.close()


def main() -> int:
    """Checks everything and prints the faults."""
    parser = command_line.parser(__doc__)
    command_line.add_bin_dir(parser)
    parser.add_argument("--pictures", type=Path, help="folder for pictures of the page; a temporary one by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        learner = Learner((arguments.bin_dir / "hrm-learner").absolute(), folder)
        try:
            learner.start()
            with chromium() as browser:
                faults = list(check(browser, learner, arguments.pictures or folder / "pictures"))
        except Failure as failure:
            faults = [str(failure)]
        finally:
            learner.stop()
    return command_line.report(TEST, faults, "the page shows the run, and nothing else")


if __name__ == "__main__":
    sys.exit(main())
