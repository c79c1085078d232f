"""Data that arrive bit by bit: warm starts with replay beside retraining on everything, on the same revisions.

python benchmarks/revisions.py [--corpora reuters-r8,20newsgroups,bbc-news] [--seeds 0,1,2] [--rows 480]
                               [--results FILE] [--folder FOLDER]

reuters-r8 arrives as 4 + 2 + 2 labels, 20newsgroups as 10 + 5 + 5, bbc-news as four lots of rows; `--rows` are
drawn of each corpus in all, as many of each label, anew by each seed. The first lot makes the task, every other one a
revision: 30 % of a lot are evaluated on, a fifth of the rest validates. MiniLM, LoRA, 48 tokens. The first lot is
learned once; from there each way goes on from its own last version:

- retrain: from nothing, on every row there is, in `EPOCHS` epochs;
- replay: from the last version, on the new rows and in each epoch twice as many old ones, where there are so many;
- no replay: from the last version, on the new rows alone;
- replay all: from the last version, on every row.

Warm starts have `WARM_EPOCHS`. Scores are accuracies over the evaluation rows that a way's last version was evaluated
on (old), those of the lot (new), and all. Flips are the old rows that the way's last version answered rightly and its
next one wrongly. Seconds are those of all lots behind the first: of training as a version's cost has them, and
wall-clock seconds of `limpet train`, which evaluates too. Intervals are 95 % t-intervals over seeds, and those of
differences are paired. Results are kept in a file as they come: a run that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from statistics import fmean

from _sides import environment, half_width

from limpet.cli.terminal.quiet_libraries import silence
from limpet.home import Home, init
from limpet.training.learning.settings import TrainingSettings

LABELS_BY_LOT = {"reuters-r8": (4, 2, 2), "20newsgroups": (10, 5, 5)}
LOTS_OF_ROWS = {"bbc-news": 4}
"""How many labels, or else how many lots of rows with all labels, arrive."""
EPOCHS, WARM_EPOCHS, LENGTH = 7, 3, 48
RETRAIN, REPLAY, NO_REPLAY, REPLAY_ALL = "retrain", "replay", "no replay", "replay all"
WAYS: dict[str, Callable[[int, int], TrainingSettings]] = {
    RETRAIN: lambda seed, new: TrainingSettings(epochs=EPOCHS, seed=seed),
    REPLAY: lambda seed, new: TrainingSettings(epochs=WARM_EPOCHS, seed=seed, replay=2 * new),
    NO_REPLAY: lambda seed, new: TrainingSettings(epochs=WARM_EPOCHS, seed=seed, replay=0),
    REPLAY_ALL: lambda seed, new: TrainingSettings(epochs=WARM_EPOCHS, seed=seed),
}
"""The settings of each way, by seed and the number of new training rows."""
Row = tuple[str, str]
Answers = dict[str, list[bool]]
"""Which rows a version answers rightly, by evaluation split."""


@dataclass(frozen=True)
class Arrival:
    """What a way made of one lot: scores, flips, seconds."""

    corpus: str
    seed: int
    way: str
    lot: int
    old: float
    new: float
    all: float
    flips: float
    train_seconds: float
    wall_seconds: float
    examples: int


def number_of_lots(corpus: str) -> int:
    """Return in how many lots a corpus arrives."""
    return len(LABELS_BY_LOT[corpus]) if corpus in LABELS_BY_LOT else LOTS_OF_ROWS[corpus]


def lots_of(corpus: str, rows: int, seed: int) -> list[list[Row]]:
    """Draw rows of a corpus, as many of each label as far as there are, and return them as they arrive."""
    from limpet.training.data.reading.sources import read_source

    training = read_source(f"sample:{corpus}", None, None, target_columns=("label",)).pools["train"]
    by_label: dict[str, list[Row]] = {}
    for text, label in zip(training.texts, training.targets, strict=True):
        by_label.setdefault(str(label), []).append((str(text), str(label)))
    draw, size = random.Random(seed), rows // len(by_label)
    drawn = {label: draw.sample(pool, min(len(pool), size)) for label, pool in sorted(by_label.items())}
    if corpus in LABELS_BY_LOT:
        labels, ends = list(drawn), [0, *accumulate(LABELS_BY_LOT[corpus])]
        return [[row for label in labels[a:b] for row in drawn[label]] for a, b in pairwise(ends)]
    number = LOTS_OF_ROWS[corpus]
    return [[row for pool in drawn.values() for row in pool[lot::number]] for lot in range(number)]


def write(path: Path, rows: Sequence[Row]) -> str:
    """Write rows as a table; return its SPEC."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return f"csv:{path}"


def answers(home: Home, version: str) -> Answers:
    """Return which evaluation rows a version answers rightly, by the answers that were kept of it."""
    from limpet.registry.records import evaluations

    right: Answers = {}
    for evaluation in evaluations.of_version(home.store, version):
        kept = evaluations.predictions(home.store, evaluation)
        pairs = zip(kept["predictions"], kept["targets"], strict=True)
        right[evaluation.split] = [answer == target for answer, target in pairs]
    return right


def learn(home: Home, settings: TrainingSettings, start: str | None = None) -> tuple[str, float, float, int]:
    """Learn the task as it is now; return the version, its seconds of training and in all, and rows learned."""
    started = time.perf_counter()
    trained = home.train("task", settings, start_from=start, monitor=False, mirror=False)
    cost = trained.version.cost
    return (
        trained.version.reference,
        float(cost["train_seconds"]),
        time.perf_counter() - started,
        int(cost["examples_seen"]),
    )


def arrivals(folder: Path, corpus: str, seed: int, *, rows: int) -> Iterator[Arrival]:
    """Let a corpus arrive in a home of its own, every way beside the others."""
    lots = lots_of(corpus, rows, seed)
    home = init(folder / "home", base="sample:minilm", mlflow="off")
    task = home.task.add("task", write(folder / "lot-1.csv", lots[0]), max_length=LENGTH, split_seed=seed)
    first = learn(home, TrainingSettings(epochs=EPOCHS, seed=seed))[0]
    last = dict.fromkeys(WAYS, first)
    for lot, lot_rows in enumerate(lots[1:], start=2):
        known = task.split("train").examples
        task = home.task.revise("task", write(folder / f"lot-{lot}.csv", lot_rows))
        new = task.split("train").examples - known
        for way, settings in WAYS.items():
            before = answers(home, last[way])
            start = None if way == RETRAIN else last[way]
            last[way], train_seconds, wall_seconds, examples = learn(home, settings(seed, new), start)
            now = answers(home, last[way])
            old_rows = [pair for split, was in before.items() for pair in zip(was, now[split], strict=True)]
            new_rows = [right for split in now.keys() - before.keys() for right in now[split]]
            is_now = [right for _, right in old_rows]
            yield Arrival(
                corpus,
                seed,
                way,
                lot,
                old=fmean(is_now),
                new=fmean(new_rows),
                all=fmean(is_now + new_rows),
                flips=fmean(was and not right for was, right in old_rows),
                train_seconds=train_seconds,
                wall_seconds=wall_seconds,
                examples=examples,
            )


def read(path: Path) -> list[Arrival]:
    """Return what was measured; what was begun twice counts as it was measured last."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    measured = [Arrival(**json.loads(line)) for line in lines]
    return list({(one.corpus, one.seed, one.lot, one.way): one for one in measured}.values())


def of_run(found: Sequence[Arrival], corpus: str, seed: int) -> list[Arrival]:
    """Return what was measured of a corpus under a seed."""
    return [arrival for arrival in found if (arrival.corpus, arrival.seed) == (corpus, seed)]


def with_interval(values: Sequence[float], digits: int = 1) -> str:
    """Mean, and half of its interval."""
    half = half_width(values)
    return f"{fmean(values):.{digits}f}" + ("" if half is None else f" ±{half:.{digits}f}")


def show(corpus: str, found: Sequence[Arrival]) -> None:
    """Print what each way made of a corpus: by lot, then in all beside retraining."""
    seeds = sorted({arrival.seed for arrival in found})
    lots = sorted({arrival.lot for arrival in found})

    def of(way: str, lot: int) -> list[Arrival]:
        chosen = [arrival for arrival in found if (arrival.way, arrival.lot) == (way, lot)]
        return sorted(chosen, key=lambda arrival: arrival.seed)

    def seconds(way: str, what: str) -> list[float]:
        return [sum(getattr(a, what) for a in found if (a.way, a.seed) == (way, seed)) for seed in seeds]

    print(f"\n{corpus}, {len(seeds)} seeds; percent, by lot: all / old / new rows, negative flips on old rows")
    for way in WAYS:
        cells = []
        for lot in lots:
            every = of(way, lot)
            means = {key: 100 * fmean(getattr(a, key) for a in every) for key in ("all", "old", "new", "flips")}
            cells.append("{all:5.1f} /{old:5.1f} /{new:5.1f} {flips:4.1f}".format(**means))
        print(f"  {way:12}" + "  |  ".join(cells))
    print(f"  {'':12}{'at the end':16}{'less retrain':16}{'train s':>9}{'share':>7}{'wall s':>9}{'share':>7}  flips")
    final = {way: [100 * a.all for a in of(way, lots[-1])] for way in WAYS}
    base = {what: sum(seconds(RETRAIN, what)) for what in ("train_seconds", "wall_seconds")}
    for way in WAYS:
        less = [ours - theirs for ours, theirs in zip(final[way], final[RETRAIN], strict=True)]
        cost = "".join(
            f"{fmean(seconds(way, what)):9.1f}{sum(seconds(way, what)) / base[what]:7.2f}" for what in base
        )
        flips = with_interval([100 * a.flips for a in of(way, lots[-1])])
        print(f"  {way:12}{with_interval(final[way]):16}{with_interval(less):16}{cost}  {flips}", flush=True)


def main() -> None:
    """Measure what is not in the file of results yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", default="reuters-r8,20newsgroups,bbc-news")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--rows", type=int, default=480)
    parser.add_argument("--results", type=Path, default=Path("revisions.jsonl"))
    parser.add_argument("--folder", type=Path, help="where to make homes; a temporary folder if not given")
    given = parser.parse_args()
    silence()
    os.environ["LIMPET_LATENCY_SECONDS"] = "0"
    found = read(given.results)
    for seed in map(int, given.seeds.split(",")):
        for corpus in given.corpora.split(","):
            if len(of_run(found, corpus, seed)) == (number_of_lots(corpus) - 1) * len(WAYS):
                continue
            with tempfile.TemporaryDirectory(dir=given.folder) as folder:
                for arrival in arrivals(Path(folder), corpus, seed, rows=given.rows):
                    with given.results.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(asdict(arrival)) + "\n")
            found = read(given.results)
    print(environment(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))))
    for corpus in given.corpora.split(","):
        chosen = [arrival for seed in map(int, given.seeds.split(",")) for arrival in of_run(found, corpus, seed)]
        show(corpus, chosen)


if __name__ == "__main__":
    main()
