"""What the results of `methods.py` amount to: best learning rates, intervals, tables as Markdown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limpet.forgetting.metrics.intervals import percentile_interval, t_interval

__all__ = ["best_rate", "cost_table", "difference", "of_group", "score_table", "sweep_means", "sweep_table"]

Row = Mapping[str, Any]
Arms = Mapping[str, Sequence[float]]
"""Names of arms with the learning rates that were tried."""
BASELINES = ("full", "none")
"""The arms that others are compared with, where a group has them."""
RESAMPLES = 4000


def of_group(rows: Iterable[Row], base: str, tasks: Iterable[str], *, dtype: str) -> list[Row]:
    """The results on one base and some tasks, trained in one dtype, the oldest first."""
    wanted = set(tasks)
    keys = ((row, row["key"]) for row in rows)
    return [row for row, key in keys if (key["base"], key["dtype"]) == (base, dtype) and key["task"] in wanted]


def title(arm: str) -> str:
    """Return an arm's name as tables show it; the results of `linear-probe` were kept under its older name."""
    return "`linear-probe`" if arm == "probe" else f"`{arm}`"


def of_kind(rows: Iterable[Row], kind: str, arm: str) -> list[Row]:
    """The results of one kind, the oldest first."""
    return [row for row in rows if (row["key"]["kind"], row["key"]["arm"]) == (kind, arm)]


def sweep_means(rows: Iterable[Row], arm: str) -> dict[float, float]:
    """Mean validation score over the tasks by learning rate, for those that all tasks were learned with."""
    found: dict[float, dict[str, float]] = defaultdict(dict)
    for row in of_kind(rows, "sweep", arm):
        found[row["key"]["learning_rate"]][row["key"]["task"]] = row["validation"]
    most = max(map(len, found.values()), default=0)
    return {
        rate: float(np.mean(list(by_task.values())))
        for rate, by_task in sorted(found.items())
        if len(by_task) == most
    }


def best_rate(rows: Iterable[Row], arm: str, rates: Sequence[float]) -> float | None:
    """The learning rate with the best mean validation score over the tasks; the smallest wins a tie.

    Where there was nothing to choose from, it is the one of `rates`; null where nothing was tried yet.
    """
    if len(rates) == 1:
        return rates[0]
    means = sweep_means(rows, arm)
    return max(means, key=lambda rate: (round(means[rate], 6), -rate), default=None)


def learned(rows: Sequence[Row], arm: str, rates: Sequence[float]) -> dict[str, dict[int | None, Row]]:
    """The newest result of every task and seed at the best of the rates."""
    rate = best_rate(rows, arm, rates)
    found: dict[str, dict[int | None, Row]] = defaultdict(dict)
    for row in of_kind(rows, "learn", arm):
        if row["key"]["learning_rate"] == rate:
            found[row["key"]["task"]][row["key"]["seed"]] = row
    return found


def score(row: Row) -> float:
    """The mean over the examples; results that were kept first call it by the name of the only metric they knew."""
    return float(row["score"] if "score" in row else row["accuracy"])


def values(by_seed: Mapping[int | None, Row], seeds: Sequence[int]) -> NDArray[np.float64]:
    """The score of every example: (seeds, examples). What has no seed is the same with every seed."""
    return np.stack([_of_examples(by_seed[None if None in by_seed else seed]) for seed in seeds])


def _of_examples(row: Row) -> NDArray[np.float64]:
    if "values" in row:
        return np.asarray(row["values"], np.float64)
    bits = np.frombuffer(bytes.fromhex(row["right"]), np.uint8)
    return np.unpackbits(bits, count=row["examples"]).astype(np.float64)


def difference(
    ours: Mapping[str, Mapping[int | None, Row]],
    theirs: Mapping[str, Mapping[int | None, Row]],
    tasks: Sequence[str],
) -> tuple[float, tuple[float, float]] | None:
    """Mean difference of the score over tasks, with a 95 % interval; null where a task is missing.

    Example by example and seed by seed: a two-way bootstrap that draws seeds and examples of every task again, the
    same for both (Owen 2007, the pigeonhole bootstrap: if anything too wide).
    """
    generator = np.random.default_rng(0)
    observed, drawn = [], []
    for task in tasks:
        sides = [set(side.get(task, {})) for side in (ours, theirs)]
        # what has no seed is compared with every seed of the other
        seeds = sorted(set.intersection(*(side for side in sides if side != {None}))) if all(sides) else []
        if not seeds:
            return None
        differences = values(ours[task], seeds) - values(theirs[task], seeds)
        observed.append(differences.mean())
        count, examples = differences.shape
        chosen = generator.multinomial(count, np.full(count, 1 / count), RESAMPLES) / count
        weights = generator.multinomial(examples, np.full(examples, 1 / examples), RESAMPLES) / examples
        drawn.append(np.einsum("rs,se,re->r", chosen, differences, weights, optimize=True))
    return float(np.mean(observed)), percentile_interval(np.mean(drawn, axis=0))


def score_table(rows: Sequence[Row], arms: Arms, tasks: Sequence[str]) -> str:
    """Score on each task with its interval over seeds, their mean, and the difference to the baselines."""
    held = {name: learned(rows, name, arms[name]) for name in BASELINES if name in arms}
    names = ["method", "lr", *tasks]
    if len(tasks) > 1:
        names.append("mean")
    names += [*(f"less `{name}`" for name in held), "seeds"]
    table = [names, ["---"] * len(names)]
    for arm, rates in arms.items():
        found = learned(rows, arm, rates)
        if not found:
            continue
        rate = best_rate(rows, arm, rates)
        cells = [title(arm), "" if rate is None else f"{rate:g}", *(_score(found.get(task, {})) for task in tasks)]
        if len(tasks) > 1:
            means = [np.mean([score(row) for row in found[task].values()]) for task in tasks if task in found]
            cells.append(f"{100 * float(np.mean(means)):.1f}" if len(means) == len(tasks) else "")
        for name, theirs in held.items():
            cells.append("" if arm == name else _points(difference(found, theirs, tasks)))
        table.append([*cells, _seeds(found, tasks)])
    return _markdown(table)


def _markdown(table: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |".replace("| ---", "|---").replace("--- |", "---|") for cells in table)


def _seeds(found: Mapping[str, Mapping[int | None, Row]], tasks: Sequence[str]) -> str:
    """How many seeds each task was learned with; the least and the most where they differ."""
    counts = [len(set(found.get(task, {})) - {None}) for task in tasks]
    return str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"


def _score(by_seed: Mapping[int | None, Row]) -> str:
    scores = [100 * score(row) for row in by_seed.values()]
    interval = t_interval(scores)
    if not scores:
        return ""
    return f"{np.mean(scores):.1f}" + (f" ± {(interval[1] - interval[0]) / 2:.1f}" if interval else "")


def _points(found: tuple[float, tuple[float, float]] | None) -> str:
    if found is None:
        return ""
    value, (low, high) = found
    return f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def cost_table(rows: Sequence[Row], arms: Arms, task: str, *, steps: int, batch_size: int) -> str:
    """What each method costs on a task: sizes from the runs, seconds and memory from those of `cost`.

    Where `cost` measured none of the arms, seconds and memory are those of the runs as well.
    """
    if any(of_kind(rows, "cost", arm) for arm in arms):
        names, cells_of = ("seconds", "processor seconds", "examples/s", "peak memory"), _measured
    else:
        names, cells_of = ("seconds", "examples/s", "peak memory"), _of_runs
    table = [["method", "trainable", "share", "bytes on disk", *names], ["---"] * (4 + len(names))]
    for arm, rates in arms.items():
        runs = list(learned(rows, arm, rates).get(task, {}).values())
        if not runs:
            continue
        last = runs[-1]
        cells = [f"{last['trainable_parameters']:,}", f"{last['trainable_share']:.2%}", f"{last['bytes']:,}"]
        found = cells_of(of_kind(rows, "cost", arm), runs, steps, batch_size=batch_size)
        table.append([title(arm), *cells, *(found or [""] * len(names))])
    return _markdown(table)


def _measured(measured: Sequence[Row], runs: Sequence[Row], steps: int, *, batch_size: int) -> list[str]:
    """What `cost` measured, for all steps."""
    if not measured:
        return []
    wall, processor = (
        [row[f"feature_{kind}"] + steps * row[f"step_{kind}"] for row in measured]
        for kind in ("seconds", "processor_seconds")
    )
    return [_spread(wall), _spread(processor), _rate(steps * batch_size, wall), _memory(measured)]


def _of_runs(measured: Sequence[Row], runs: Sequence[Row], steps: int, *, batch_size: int) -> list[str]:
    """What the runs that learned took, validation not counted."""
    if not all("train_seconds" in row for row in runs):
        return []
    wall = [row["train_seconds"] for row in runs]
    return [_spread(wall), _rate(steps * batch_size, wall), _memory(runs)]


def _rate(examples: int, seconds: Sequence[float]) -> str:
    return f"{examples / float(np.median(seconds)):.0f}"


def _memory(rows: Sequence[Row]) -> str:
    return f"{np.median([row['peak_memory_bytes'] for row in rows]) / 2**20:.0f} MiB"


def _spread(seconds: Sequence[float]) -> str:
    return f"{np.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})"


def sweep_table(rows: Sequence[Row], arms: Arms) -> str:
    """Mean validation score of every learning rate that was tried; the chosen one in bold."""
    lines = ["| method | learning rate: mean validation score |", "|---|---|"]
    for arm in arms:
        means = sweep_means(rows, arm)
        best = best_rate(rows, arm, ())
        shown = [f"{rate:g}: {100 * mean:.1f}" for rate, mean in means.items()]
        cells = [f"**{text}**" if rate == best else text for rate, text in zip(means, shown, strict=True)]
        if cells:
            lines.append(f"| {title(arm)} | {', '.join(cells)} |")
    return "\n".join(lines)
