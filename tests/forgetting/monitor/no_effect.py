"""Reports of invented runs in which nothing happens: whatever is found in them is a false finding.

The answers are drawn, and everything after them is limpet's own: from the evidence of runs to the sentences of a
report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from limpet.forgetting.monitor.kept_predictions import KeptPredictions
from limpet.forgetting.report.arm_report import arm_report
from limpet.forgetting.report.arm_runs import ArmRunEvidence
from limpet.forgetting.report.arm_values import AbilityReport, AdapterReport, ArmReport
from limpet.forgetting.report.comparisons import compare, drifts
from limpet.forgetting.report.conclusion import sentences
from limpet.forgetting.report.corrections import corrected, tests_of_arms
from limpet.forgetting.report.general_ability import over_first
from limpet.forgetting.report.seeds_and_orders import over_seeds
from limpet.forgetting.report.values import BaseReport, Report, TaskReport
from limpet.registry.values import ArmRun, Environment, EvaluationRecord, VersionRecord

Answers = NDArray[np.int64]

ENVIRONMENT = Environment("3.11", "2", "5", "0.21", "1", "cpu", "float32", 1)
ARMS = {"isolated": ("isolated", "lora"), "shared": ("sequential", "lora"), "full": ("sequential", "full")}
FINDINGS = {
    "forgot": (" forgot (", " gained on earlier tasks"),
    "flips": ("Its clearest loss",),
    "arms": (" ended above ", " ended below "),
    "peft": ("PEFT by itself",),
    "ability": (" lost general ability", " gained general ability", "general ability is lower"),
    "adapters": ("its own in",),
    "equal": (" is as good as ",),
}
HEDGED = "In these runs "


@dataclass(frozen=True)
class World:
    """What is drawn.

    Args:
        tasks: How many are learned.
        seeds: Under how many seeds every arm runs.
        examples: Of each task.
        accuracy: Share of right answers, the same for every arm and after every step.
        churn: Share of the examples that an arm which shares weights answers anew at every step.
        luck: Standard deviation over runs of the accuracy when learned, and of its change at each step: of single
            runs, and none on average.
        ahead: How much more accurate the first arm is than the others, in truth.
    """

    tasks: int
    seeds: int = 1
    examples: int = 100
    accuracy: float = 0.8
    churn: float = 0.2
    luck: float = 0.0
    ahead: float = 0.0


def findings(world: World, generator: np.random.Generator, hedged: bool = True) -> set[str]:
    """Return the kinds of finding that a report of one drawn world tells.

    Args:
        world: What is drawn.
        generator: Draws it.
        hedged: Whether what is told of the very runs, and not of other seeds, counts too.
    """
    told = [one for one in sentences(draw(world, generator)) if hedged or not one.startswith(HEDGED)]
    found = {kind for kind, words in FINDINGS.items() for one in told if any(word in one for word in words)}
    if any("its own in 0 of" in one and "below" not in one for one in told):
        found.discard("adapters")
    return found


def draw(world: World, generator: np.random.Generator) -> Report:
    """Return the report of one drawn world."""
    names = tuple(f"task-{number}" for number in range(world.tasks))
    # some examples are hard for every arm under every seed
    hard = generator.random((world.tasks, world.examples))
    arm_runs = [
        _course(world, generator, hard, name, seed, place == 0)
        for place, name in enumerate(ARMS)
        for seed in range(world.seeds)
    ]
    arms = [_with_ability_tasks(arm_report(evidence), evidence, world, generator) for evidence in arm_runs]
    drifted = drifts(arm_runs)
    report = Report(
        stream="nothing",
        base=BaseReport("tiny", "sha256:", True),
        tasks=tuple(TaskReport(name, "accuracy", "share", world.examples, "sha256:") for name in names),
        arms=tuple(arms),
        comparisons=compare(arm_runs, len(drifted) + tests_of_arms(arms)),
        seeds=over_seeds(arm_runs),
        environments=(),
        spec={},
        drifts=drifted,
    )
    return corrected(report)


def _course(
    world: World, generator: np.random.Generator, hard: NDArray[np.float64], name: str, seed: int, first: bool
) -> ArmRunEvidence:
    strategy, method = ARMS[name]
    kept: dict[int, KeptPredictions] = {}
    rows: list[list[EvaluationRecord | None]] = [[None] * world.tasks for _ in range(world.tasks)]
    targets = (1,) * world.examples
    for task in range(world.tasks):
        accuracy = world.accuracy + (world.ahead if first else 0.0) + world.luck * generator.standard_normal()
        right = _right(generator, hard[task], accuracy)
        for step in range(task, world.tasks):
            if step > task and strategy != "isolated":
                accuracy += world.luck * generator.standard_normal()
                anew = generator.random(world.examples) < (world.churn if world.luck == 0 else 1.0)
                right = np.where(anew, _right(generator, hard[task], accuracy), right)
            number = len(kept)
            kept[number] = KeptPredictions(tuple(right.tolist()), targets)
            rows[step][task] = _evaluation(f"task-{task}", number, kept[number])
    arm = ArmRun(0, "nothing", name, strategy, method, seed, {}, (), {}, True)
    versions = tuple(_version(f"task-{task}", method, seed) for task in range(world.tasks))
    names = tuple(version.task for version in versions)
    return ArmRunEvidence(arm, names, tuple(map(tuple, rows)), versions, lambda evaluation: kept[evaluation.id])


def _right(generator: np.random.Generator, hard: NDArray[np.float64], accuracy: float) -> Answers:
    """Answers of which a share is right on average: a quarter of the luck is the example's own."""
    share = np.clip(accuracy + 0.2 * (hard - 0.5), 0.0, 1.0)
    return (generator.random(len(hard)) < share).astype(np.int64)


def _with_ability_tasks(
    arm: ArmReport, evidence: ArmRunEvidence, world: World, generator: np.random.Generator
) -> ArmReport:
    """The arm with an ability task after each step, and each task under another adapter as good as its own."""
    targets = (1,) * world.examples
    answers = [tuple(_right(generator, np.full(world.examples, 0.5), 0.7).tolist()) for _ in range(world.tasks + 1)]
    intervals, p_values = over_first("apart", "accuracy", targets, rows=answers)
    before, *steps = (float(np.mean(row)) for row in answers)
    ability = AbilityReport(
        "zero-shot", "apart", "accuracy", world.examples, before, tuple(steps), intervals, None, None, p_values
    )
    if arm.strategy != "isolated":
        return replace(arm, ability=(ability,))
    adapters = []
    for name in evidence.tasks:
        own, wrong = (tuple(_right(generator, np.full(world.examples, 0.5), 0.7).tolist()) for _ in range(2))
        (interval,), (p_value,) = over_first(name, "accuracy", targets, rows=[wrong, own])
        scores = [float(np.mean(row)) for row in (own, wrong)]
        adapters.append(AdapterReport(name, "accuracy", scores[0], "other", scores[1], None, interval, None, p_value))
    return replace(arm, ability=(ability,), adapters=tuple(adapters))


def _evaluation(task: str, number: int, outcomes: KeptPredictions) -> EvaluationRecord:
    return EvaluationRecord(
        id=number,
        task=task,
        version=f"{task}@1",
        state=f"{task}@1",
        kind="full",
        split="evaluation",
        metric="accuracy",
        score=float(np.mean(outcomes.predictions)),
        examples=len(outcomes.targets),
        predictions_digest=f"sha256:{number}",
        logits_digest=f"sha256:{hash(outcomes.predictions)}",
        plan_digest="sha256:",
        data_digest="sha256:",
        base_digest="sha256:",
        environment=ENVIRONMENT,
        seconds=1.0,
        created_at="",
    )


def _version(task: str, method: str, seed: int) -> VersionRecord:
    return VersionRecord(
        task=task,
        number=1,
        digest="sha256:",
        method=method,
        config={},
        base_digest="sha256:",
        data_digest="sha256:",
        labels=("0", "1"),
        seed=seed,
        created_at="",
        aliases=(),
        parent=None,
        role="adapter",
        lineage={},
        metrics={},
        cost={},
        files=(),
        environment=ENVIRONMENT,
    )


def rates(world: World, trials: int, seed: int, hedged: bool = True) -> dict[str, float]:
    """Return in which share of drawn worlds each kind of finding was told, and any of them (`any`)."""
    generator = np.random.default_rng(seed)
    found: Sequence[set[str]] = [findings(world, generator, hedged) for _ in range(trials)]
    shares = {kind: sum(kind in one for one in found) / trials for kind in FINDINGS}
    return {**shares, "any": sum(bool(one - {"equal"}) for one in found) / trials}
