"""Look at a home's dashboard in headless Chromium, as a reader who wants four answers.

Which arm forgets; when, and on what; which version is in production; from which data and run that came. Then: is the
stream there, with its arms, curves, heat map and report?

    python docs/check_dashboard.py .limpet                   # the stream that was worked on last
    python docs/check_dashboard.py .limpet --stream NAME --images docs/images

Screenshots of what was looked at are written; the exit code is 1 if something was missing. Needs selenium (in the
extra `dev`) and a Chromium with its driver: `apt-get install -y chromium chromium-driver`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from limpet.forgetting.mlflow_mirror import sync
from limpet.forgetting.mlflow_mirror.dashboard import free_port, serve
from limpet.forgetting.mlflow_mirror.sent_items import find
from limpet.forgetting.render.summary_table import Fall, largest_falls
from limpet.forgetting.report.build import build_report
from limpet.forgetting.report.conclusion import arm_names, forgot, is_reference, runs_of
from limpet.registry import versions
from limpet.registry.records import streams
from limpet.registry.store import Store, open_store
from limpet.registry.values import VersionRecord

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1600,1100",
)
PATIENCE_SECONDS = 40
# MLflow shows the first line of an experiment's note, and the rest behind this
_UNFOLD = "//button[contains(@data-component-id, 'metadata_editor.expand')]"
# whether words can be read on the screen, uncovered, not folded away and not cut off
READABLE = """
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode, start = node.data.indexOf(arguments[0]);
  if (start < 0) continue;
  const range = document.createRange();
  range.setStart(node, start);
  range.setEnd(node, start + arguments[0].length);
  const rects = [...range.getClientRects()];
  const seen = rect => {
    const top = document.elementFromPoint(rect.x + rect.width / 2, rect.y + rect.height / 2);
    return top !== null && node.parentElement.contains(top);
  };
  if (rects.length && rects.every(seen)) return true;
}
return false;
"""


@dataclass
class Looker:
    """A browser on the dashboard, where its pictures go, and what was not seen."""

    driver: Any
    address: str
    images: Path
    missing: list[str] = field(default_factory=list)

    def open(self, page: str) -> None:
        self.driver.get("about:blank")
        self.driver.get(f"{self.address}/#/{page}?workflowType=machine_learning")
        self.until(lambda: len(self.text()) > 50)

    def find(self, path: str) -> list[Any]:
        return list(self.driver.find_elements("xpath", path))

    def text(self) -> str:
        return str(self.driver.execute_script("return document.body.innerText"))

    def reads(self, words: str) -> bool:
        self.close_advertisements()
        return bool(self.driver.execute_script(READABLE, words))

    def unfold_note(self) -> None:
        self.until(lambda: self.find(_UNFOLD))
        for button in self.find(_UNFOLD)[:1]:
            self.driver.execute_script("arguments[0].click()", button)

    def follow(self, link: str) -> None:
        for element in self.find(f"//a[text()='{link}']")[:1]:
            # MLflow opens links in a new tab
            self.driver.get(element.get_attribute("href"))

    def until(self, seen: Callable[[], Any]) -> bool:
        """Wait until something is seen; the page draws itself again meanwhile, so stale elements are no error."""
        from selenium.common.exceptions import StaleElementReferenceException

        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                if seen():
                    return True
            except StaleElementReferenceException:
                pass
            time.sleep(0.3)
        return False

    def expect(self, what: str, seen: Callable[[], Any]) -> None:
        found = self.until(seen)
        print(f"{'seen' if found else 'MISSING':8}{what}")
        if not found:
            self.missing.append(what)

    def close_advertisements(self) -> None:
        # MLflow's advertisements cover what is looked at
        for button in self.find("//button[@aria-label='Close']"):
            self.driver.execute_script("arguments[0].click()", button)

    def picture(self, name: str) -> None:
        # charts and pictures fade in
        time.sleep(2)
        self.close_advertisements()
        time.sleep(1)
        # where this machine keeps its files is no part of the picture
        self.driver.execute_script(
            "for (const e of document.querySelectorAll('div, span'))"
            " if (/^Path: /.test(e.innerText)) e.style.visibility = 'hidden'"
        )
        self.driver.save_screenshot(str(self.images / f"dashboard-{name}.png"))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("home", type=Path)
    parser.add_argument("--stream", help="default: the stream that was worked on last")
    parser.add_argument("--images", type=Path, default=Path(__file__).parent / "images")
    arguments = parser.parse_args()
    arguments.images.mkdir(parents=True, exist_ok=True)
    store = open_store(arguments.home)
    sync.sync(store)
    stream = arguments.stream or streams.latest(store).name
    with serve(store, free_port()) as dashboard, tempfile.TemporaryDirectory() as profile:
        parts = urlsplit(dashboard.url)
        driver = _browser(Path(profile))
        try:
            looker = Looker(driver, f"{parts.scheme}://{parts.netloc}", arguments.images)
            look(looker, store, stream)
        finally:
            driver.quit()
    print(f"{len(looker.missing)} missing; screenshots in {arguments.images}")
    return 1 if looker.missing else 0


def look(looker: Looker, store: Store, stream: str) -> None:
    """Look for what a reader wants to know; each page is opened as a reader would reach it."""
    experiment, run = _known(store, "experiment"), _known(store, f"stream:{stream}")
    arms = streams.arm_runs(store, stream)
    labels = [f"{arm.name}, seed {arm.seed}" for arm in arms]
    tasks = streams.get(store, stream).tasks
    _look_for_answers(looker, store, experiment, stream=stream)
    _look_at_runs(looker, experiment, stream, labels=labels, tasks=tasks)
    _look_at_stream(looker, f"experiments/{experiment}/runs/{run}", labels)
    for arm, label in zip(arms, labels, strict=True):
        page = f"experiments/{experiment}/runs/{_known(store, f'arm:{stream}:{arm.id}')}"
        looker.open(f"{page}/artifacts/matrix.png")
        looker.expect(f"heat map of {label}", lambda: _drawn(looker))
        looker.picture(f"heatmap-{arm.name}-{arm.seed}")
    looker.open("models")
    for task in tasks:
        looker.expect(f"registered model limpet-{task}", lambda task=task: f"limpet-{task}" in looker.text())
    looker.picture("models")


def _look_for_answers(looker: Looker, store: Store, experiment: str, *, stream: str) -> None:
    """The note's first line, as it is folded: what serves, and who forgets; the others in its table and its links."""
    looker.open(f"experiments/{experiment}/runs")
    looker.expect("that the note opens on what serves", lambda: looker.reads("Serving: "))
    worst = _worst(store, stream)
    if worst is None:
        looker.expect("that no arm forgets", lambda: looker.reads("no forgetting was shown"))
    else:
        arm, fall = worst
        looker.expect(f"which arm forgets: {arm}", lambda: looker.reads(arm))
        looker.expect(
            f"when and on what: {fall.sentence()}", lambda: looker.reads(f"forgets most: {fall.sentence()}")
        )
    version = _in_production(store)
    if version is None:
        looker.expect("which version is in production", lambda: False)
        return
    looker.expect(f"which version is in production: {version.reference}", lambda: looker.reads(version.reference))
    looker.picture("answers")
    looker.follow(version.reference)
    looker.expect("its page, with the alias", lambda: looker.reads("production"))
    looker.expect("from which data", lambda: looker.reads(version.data_digest[:19]))
    looker.expect("its page, with the digest", lambda: version.digest in looker.text())
    looker.picture("version")
    looker.open(f"experiments/{experiment}/runs")
    looker.unfold_note()
    looker.expect("the last change of what serves, and why", lambda: looker.reads("promoted "))
    looker.expect("the gate's last word", lambda: looker.reads("no rule crossed") or looker.reads(" crossed "))
    looker.picture("serving")
    looker.follow("its run")
    looker.expect("from which run", lambda: looker.reads(f": {version.task}") or looker.reads(version.reference))
    looker.expect("the data of that run", lambda: looker.reads(f"{version.task}/train"))
    looker.picture("run")


def _worst(store: Store, stream: str) -> tuple[str, Fall] | None:
    """The arm whose mean score fell most in one step, by the registry and not by the mirror."""
    made = build_report(store, stream)
    names = [name for name in arm_names(made) if not is_reference(made, name) and forgot(made, name)]
    known = [(name, fall) for name in names for fall in largest_falls(made, runs_of(made, name))]
    return max(known, key=lambda one: one[1].before - one[1].after, default=None)


def _in_production(store: Store) -> VersionRecord | None:
    cursor = None
    while True:
        page = versions.find(store, limit=500, cursor=cursor)
        for version in page.items:
            if "production" in version.aliases:
                return version
        cursor = page.cursor
        if cursor is None:
            return None


def _look_at_runs(looker: Looker, experiment: str, stream: str, *, labels: list[str], tasks: tuple[str, ...]) -> None:
    """The list of runs with the arms unfolded, then the charts of the same runs."""
    looker.open(f"experiments/{experiment}/runs")
    unfold = f"//div[@role='gridcell'][.//a//span[text()='{stream}']]//button"
    looker.expect(f"stream {stream}", lambda: looker.find(unfold))
    if buttons := looker.find(unfold):
        buttons[0].click()
    for label in labels:
        looker.expect(f"arm {label}", lambda label=label: label in looker.text())
    looker.picture("runs")
    for switch in looker.find("//input[@value='CHART']"):
        looker.driver.execute_script("arguments[0].click()", switch)
    looker.expect("charts", lambda: looker.find("//input[@placeholder='Search metric charts']"))
    for box in looker.find("//input[@placeholder='Search metric charts']"):
        box.send_keys("score/")
    for task in tasks:
        looker.expect(f"curves of score/{task}", lambda task=task: _chart(looker, f"score/{task}"))
    looker.picture("curves")


def _look_at_stream(looker: Looker, page: str, labels: list[str]) -> None:
    """The stream's run: the note that says who forgot what, and the report."""
    looker.open(page)
    for label in labels:
        looker.expect(f"{label} in the note", lambda label=label: label in looker.text())
    looker.picture("stream")
    looker.open(f"{page}/artifacts/report.html")
    looker.expect("report.html", lambda: looker.find("//iframe"))
    looker.picture("report")


def _chart(looker: Looker, metric: str) -> bool:
    """Whether a chart of this metric is drawn, not only named; those below the fold are drawn when scrolled to."""
    cards = looker.find(f"//*[@data-testid='experiment-view-compare-runs-card'][.//*[text()='{metric}']]")
    if not cards:
        return False
    looker.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", cards[0])
    return bool(cards[0].find_elements("css selector", ".scatterlayer .trace path.js-line"))


def _drawn(looker: Looker) -> bool:
    pictures = "return [...document.images].some(i => i.naturalWidth > 300 && i.src.startsWith('blob:'))"
    return bool(looker.driver.execute_script(pictures))


def _known(store: Store, key: str) -> str:
    item = find(store, key)
    if item is None:
        sys.exit(f"the mirror of this home has no {key}")
    return item[0]


def _browser(profile: Path) -> Any:
    from selenium import webdriver

    browser = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        sys.exit("Chromium or its driver is not installed: apt-get install -y chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))


if __name__ == "__main__":
    sys.exit(main())
