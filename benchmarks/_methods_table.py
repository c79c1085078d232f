"""What the results of `methods.py` amount to: best learning rates, intervals, tables as Markdown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limpet.forgetting.statistics import percentile_interval, t_interval

__all__ = ["accuracy_table", "best_rate", "cost_table", "difference", "sweep_table"]

Row = Mapping[str, Any]
Arms = Mapping[str, Sequence[float]]
"""Names of arms with the learning rates that were tried."""
BASELINE = "full"
RESAMPLES = 4000


def of_kind(rows: Iterable[Row], kind: str, base: str, arm: str) -> list[Row]:
    """The results of one kind, the oldest first."""
    wanted = (kind, base, arm)
    return [row for row in rows if (row["key"]["kind"], row["key"]["base"], row["key"]["arm"]) == wanted]


def sweep_means(rows: Iterable[Row], base: str, arm: str) -> dict[float, float]:
    """Mean validation accuracy over the tasks by learning rate, for those that all tasks were learned with."""
    found: dict[float, dict[str, float]] = defaultdict(dict)
    for row in of_kind(rows, "sweep", base, arm):
        found[row["key"]["learning_rate"]][row["key"]["task"]] = row["validation"]
    most = max(map(len, found.values()), default=0)
    return {
        rate: float(np.mean(list(by_task.values())))
        for rate, by_task in sorted(found.items())
        if len(by_task) == most
    }


def best_rate(rows: Iterable[Row], base: str, arm: str, rates: Sequence[float] = ()) -> float:
    """The learning rate with the best mean validation accuracy over the tasks; the smallest wins a tie.

    Where there was nothing to choose from, it is the one of `rates`.
    """
    if len(rates) == 1:
        return rates[0]
    means = sweep_means(rows, base, arm)
    return max(means, key=lambda rate: (round(means[rate], 6), -rate))


def learned(rows: Sequence[Row], base: str, arm: str, rate: float) -> dict[str, dict[int, Row]]:
    """The newest result of every task and seed at that rate."""
    found: dict[str, dict[int, Row]] = defaultdict(dict)
    for row in of_kind(rows, "learn", base, arm):
        if row["key"]["learning_rate"] == rate:
            found[row["key"]["task"]][row["key"]["seed"]] = row
    return found


def right(by_seed: Mapping[int, Row], seeds: Sequence[int]) -> NDArray[np.float64]:
    """Which examples were right: (seeds, examples), 0 or 1."""
    rows = [
        np.unpackbits(np.frombuffer(bytes.fromhex(by_seed[seed]["right"]), np.uint8), count=by_seed[seed]["examples"])
        for seed in seeds
    ]
    return np.stack(rows).astype(np.float64)


def difference(
    ours: Mapping[str, Mapping[int, Row]], theirs: Mapping[str, Mapping[int, Row]], tasks: Sequence[str]
) -> tuple[float, tuple[float, float]] | None:
    """Mean difference of accuracy over tasks, with a 95 % interval; null where a task is missing.

    Example by example and seed by seed: a two-way bootstrap that draws seeds and examples of every task again, the
    same for both (Owen 2007, the pigeonhole bootstrap: if anything too wide).
    """
    generator = np.random.default_rng(0)
    observed, drawn = [], []
    for task in tasks:
        seeds = sorted(set(ours.get(task, {})) & set(theirs.get(task, {})))
        if not seeds:
            return None
        differences = right(ours[task], seeds) - right(theirs[task], seeds)
        observed.append(differences.mean())
        count, examples = differences.shape
        chosen = generator.multinomial(count, np.full(count, 1 / count), RESAMPLES) / count
        weights = generator.multinomial(examples, np.full(examples, 1 / examples), RESAMPLES) / examples
        drawn.append(np.einsum("rs,se,re->r", chosen, differences, weights, optimize=True))
    return float(np.mean(observed)), percentile_interval(np.mean(drawn, axis=0))


def accuracy_table(rows: Sequence[Row], base: str, arms: Arms, tasks: Sequence[str]) -> str:
    """Accuracy on each task with its interval over seeds, and the difference to full fine-tuning."""
    lines = [
        f"| method | lr | {' | '.join(tasks)} | {'mean | ' if len(tasks) > 1 else ''}less `full` | seeds |",
        "|---" * (len(tasks) + (5 if len(tasks) > 1 else 4)) + "|",
    ]
    held = learned(rows, base, BASELINE, best_rate(rows, base, BASELINE, arms[BASELINE]))
    for arm, rates in arms.items():
        if not of_kind(rows, "learn", base, arm):
            continue
        rate = best_rate(rows, base, arm, rates)
        found = learned(rows, base, arm, rate)
        cells = [_accuracy(found.get(task, {})) for task in tasks]
        if len(tasks) > 1:
            means = [np.mean([row["accuracy"] for row in found[task].values()]) for task in tasks if task in found]
            cells.append(f"{100 * float(np.mean(means)):.1f}" if len(means) == len(tasks) else "")
        seeds = sorted({seed for by_seed in found.values() for seed in by_seed})
        cells += ["" if arm == BASELINE else _points(difference(found, held, tasks)), str(len(seeds))]
        lines.append(f"| `{arm}` | {rate:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _accuracy(by_seed: Mapping[int, Row]) -> str:
    values = [100 * row["accuracy"] for row in by_seed.values()]
    interval = t_interval(values)
    if not values:
        return ""
    return f"{np.mean(values):.1f}" + (f" ± {(interval[1] - interval[0]) / 2:.1f}" if interval else "")


def _points(found: tuple[float, tuple[float, float]] | None) -> str:
    if found is None:
        return ""
    value, (low, high) = found
    return f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def cost_table(rows: Sequence[Row], base: str, arms: Arms, task: str, steps: int, batch_size: int) -> str:
    """What each method costs on a task: sizes from the runs, seconds and memory from those of `cost`."""
    lines = [
        "| method | trainable | share | bytes on disk | seconds | examples/s | memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm in arms:
        known = [row for row in of_kind(rows, "learn", base, arm) if row["key"]["task"] == task]
        measured = of_kind(rows, "cost", base, arm)
        if not known:
            continue
        last = known[-1]
        cells = [f"{last['trainable_parameters']:,}", f"{last['trainable_share']:.2%}", f"{last['bytes']:,}"]
        if measured:
            seconds = [row["feature_seconds"] + steps * row["step_seconds"] for row in measured]
            middle = float(np.median(seconds))
            cells.append(f"{middle:.1f} ({min(seconds):.1f} to {max(seconds):.1f})")
            cells.append(f"{steps * batch_size / middle:.0f}")
            cells.append(f"{np.median([row['peak_memory_bytes'] for row in measured]) / 2**20:.0f} MiB")
        else:
            cells += ["", "", ""]
        lines.append(f"| `{arm}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def sweep_table(rows: Sequence[Row], base: str, arms: Arms) -> str:
    """Mean validation accuracy of every learning rate that was tried; the chosen one in bold."""
    lines = ["| method | learning rate: mean validation accuracy |", "|---|---|"]
    for arm in arms:
        means = sweep_means(rows, base, arm)
        if not means:
            continue
        best = best_rate(rows, base, arm)
        shown = [f"{rate:g}: {100 * mean:.1f}" for rate, mean in means.items()]
        cells = [f"**{text}**" if rate == best else text for rate, text in zip(means, shown, strict=True)]
        lines.append(f"| `{arm}` | {', '.join(cells)} |")
    return "\n".join(lines)
