"""What a benchmark of methods says, as frozen values, and their JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from limpet.forgetting.metrics.intervals import Interval, t_interval
from limpet.registry.formats.json_values import JsonObject
from limpet.registry.values import Environment
from limpet.registry.versions.costs import COMPARED

__all__ = ["Bench", "MethodRow", "MethodRun"]

_FULL = "full"
_MEANS = ("bytes", "full_checkpoint_bytes", "train_seconds", "examples_per_second")
_LARGEST = ("trainable_parameters", "trainable_share", "peak_memory_bytes", "peak_memory_added_bytes")


@dataclass(frozen=True)
class MethodRun:
    """One method under one seed: its score on the evaluation split, and what it cost.

    `interval` is the bootstrap over evaluation examples; `cost` has the figures of `registry.costs.COSTS`; `config`
    is what the version would record; `version` is where it was registered, null if it was not.
    """

    method: str
    seed: int
    score: float
    interval: Interval
    cost: JsonObject
    config: JsonObject
    environment: Environment
    version: str | None


@dataclass(frozen=True)
class MethodRow:
    """A method over its seeds; `reason` says why there is none of it, or why a seed is missing.

    Times, rates and sizes are means over the seeds, latencies medians; parameters and peak memory are the largest.
    """

    method: str
    runs: tuple[MethodRun, ...]
    reason: str = ""

    @property
    def score(self) -> float | None:
        """Mean over the seeds, null where the method failed."""
        return sum(run.score for run in self.runs) / len(self.runs) if self.runs else None

    @property
    def interval(self) -> Interval | None:
        """95 %: the t-interval over the seeds, or for a single seed the bootstrap over evaluation examples."""
        if len(self.runs) == 1:
            return self.runs[0].interval
        return t_interval([run.score for run in self.runs])

    @property
    def conditions(self) -> frozenset[tuple[str, str, int]]:
        """Device, dtype and threads of the runs."""
        where = (run.environment for run in self.runs)
        return frozenset((one.device, one.dtype, one.threads) for one in where)

    @property
    def cost(self) -> JsonObject:
        """The figures of all seeds in one; null where one is unknown."""
        means = {key: _known([run.cost.get(key) for run in self.runs], _mean) for key in _MEANS}
        largest = {key: _known([run.cost.get(key) for run in self.runs], max) for key in _LARGEST}
        latencies = [run.cost.get("latency") or {} for run in self.runs]
        times = {
            f"{name}latency_{key}": _known([latency.get(f"{name}{key}") for latency in latencies], median)
            for name in ("", "merged_")
            for key in ("milliseconds", "ratio")
        }
        base = _known([latency.get("base_milliseconds") for latency in latencies], median)
        unchanged = [run.cost.get("base_unchanged") for run in self.runs]
        share = _ratio(means["bytes"], means["full_checkpoint_bytes"])
        return {
            **largest,
            **means,
            "bytes_share": share,
            **times,
            "base_latency_milliseconds": base,
            "base_unchanged": all(unchanged) if unchanged and None not in unchanged else None,
        }


@dataclass(frozen=True)
class Bench:
    """Several methods on one task, on one base, under the same seeds."""

    task: str
    type: str
    metric: str
    train_examples: int
    eval_examples: int
    data_digest: str
    base: str
    base_digest: str
    epochs: int
    seeds: tuple[int, ...]
    settings: Mapping[str, Mapping[str, Any]]
    rows: tuple[MethodRow, ...]

    @property
    def environments(self) -> tuple[Environment, ...]:
        """The environments of all runs, each once."""
        return tuple(dict.fromkeys(run.environment for row in self.rows for run in row.runs))

    def against_full(self, row: MethodRow) -> dict[str, float | None]:
        """Return a method's figures of `COMPARED` divided by those of full fine-tuning; null where one is unknown.

        Times and memory of another dtype, device or number of threads can't be compared, so they are null as well.
        """
        alike = (other for other in self.rows if other.method == _FULL and other.conditions == row.conditions)
        full = next((other.cost for other in alike), {})
        return {key: _ratio(row.cost[key], full.get(key)) for key in COMPARED}

    def to_json(self) -> JsonObject:
        """Return the benchmark as `limpet bench methods --json` prints it."""
        facts = {name: value for name, value in vars(self).items() if name != "rows"}
        return {
            "schema": 1,
            **facts,
            "seeds": list(self.seeds),
            "settings": {name: dict(values) for name, values in self.settings.items()},
            "methods": [self._row(row) for row in self.rows],
            "environments": [environment.content() for environment in self.environments],
        }

    def _row(self, row: MethodRow) -> JsonObject:
        return {
            "method": row.method,
            "score": row.score,
            "interval": list(row.interval) if row.interval else None,
            "cost": row.cost,
            "against_full": self.against_full(row),
            "runs": [{**asdict(run), "interval": list(run.interval)} for run in row.runs],
            "reason": row.reason or None,
        }


def _known(values: Sequence[float | None], reduce: Callable[[Sequence[float]], float]) -> float | None:
    known = [value for value in values if value is not None]
    return reduce(known) if known and len(known) == len(values) else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _ratio(value: float | None, of: float | None) -> float | None:
    return value / of if value is not None and of else None
