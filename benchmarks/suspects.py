"""How many wrong labels `limpet task show --suspects` finds: labels are flipped at random, and suspects looked at.

python benchmarks/suspects.py [--tasks bbc-news reuters-r8] [--seeds 3] [--share 0.05] [--max-length 128]

MiniLM's features of all training texts. Of the labels, a share is flipped, each to one of the others at random. As
many suspects as labels were flipped are looked at, so that precision and recall are one number: the share of them
that were flipped. Every probe and score is asked about the same flips:

- `chosen` is what limpet does: logistic regression, the penalty by cross-validation; `logistic P` has the penalty P;
- `discriminant` is linear discriminant analysis with a shrunk covariance, `neighbours` the share of the 25 nearest;
- `self-confidence` is the probability of the given label; `margin` that less the largest of the others; the two with
  `by label` are less the mean self-confidence of each label (Northcutt, Jiang & Chuang 2021).

A sample has wrong labels of its own, and texts that could have either label: they count as mistakes here.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean

import numpy as np
import numpy.typing as npt
import torch
from _sides import environment

from limpet.training.evaluation.label_probe import FOLDS, PENALTIES, probe_answers

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
NEIGHBOURS = 25
SHRINKAGE = 0.1


def features_of(folder: Path, task: str, max_length: int) -> tuple[Array, Labels]:
    """Return MiniLM's features of a sample's training texts, and their labels."""
    from limpet.home import init
    from limpet.training.base.backbone import load_backbone
    from limpet.training.data.stored_splits import read_split
    from limpet.training.evaluation.frozen_features import frozen_features
    from limpet.training.model.head_files import build_head

    home = init(folder / task, base="sample:minilm", mlflow="off")
    record = home.task.add(task, f"sample:{task}", max_length=max_length)
    examples = read_split(home.store, record, "train")
    backbone = load_backbone(home.store, home.base.show(), "auto")
    head = build_head(record, backbone.record, examples)
    features = frozen_features(backbone, head, examples, max_length=max_length)
    return features.double().numpy(), np.array([example.target for example in examples])


def flipped(labels: Labels, share: float, seed: int) -> tuple[Labels, npt.NDArray[np.bool_]]:
    """Return the labels with a share of them flipped, and which those are."""
    draw = np.random.default_rng(seed)
    which = np.zeros(len(labels), dtype=bool)
    which[draw.choice(len(labels), round(share * len(labels)), replace=False)] = True
    classes = labels.max() + 1
    noisy = labels.copy()
    noisy[which] = (labels[which] + draw.integers(1, classes, which.sum())) % classes
    return noisy, which


def probes(features: Array, labels: Labels) -> Iterator[tuple[str, Array]]:
    """Give the probabilities of every probe for the labels of examples that it has not seen."""
    targets = torch.nn.functional.one_hot(torch.tensor(labels)) > 0
    fixed = ((f"logistic {penalty:g}", (penalty,)) for penalty in PENALTIES)
    for name, penalties in (("chosen", PENALTIES), *fixed):
        answers = probe_answers(torch.tensor(features), targets, exclusive=True, penalties=penalties)
        yield name, answers.probabilities.numpy()
    rows = features - features.mean(axis=0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for name, answer in (("discriminant", discriminant), ("neighbours", neighbours)):
        yield name, left_out(rows, labels, answer)


def left_out(rows: Array, labels: Labels, answer: Callable[[Array, Labels, Array], Array]) -> Array:
    """Answer every fifth of the examples from the others."""
    folds = np.random.default_rng(0).permutation(len(rows)) % FOLDS
    answers = np.zeros((len(rows), labels.max() + 1))
    for fold in range(FOLDS):
        answers[folds == fold] = answer(rows[folds != fold], labels[folds != fold], rows[folds == fold])
    return answers


def discriminant(rows: Array, labels: Labels, asked: Array) -> Array:
    """Probabilities by linear discriminant analysis, the covariance shrunk towards a multiple of the identity."""
    classes = np.unique(labels)
    means = np.stack([rows[labels == label].mean(axis=0) for label in classes])
    within = rows - means[labels]
    covariance = within.T @ within / len(rows)
    width = len(covariance)
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.trace(covariance) / width * np.eye(width)
    directions = np.linalg.solve(covariance, means.T)
    logits = asked @ directions - (means.T * directions).sum(axis=0) / 2 + np.log(np.bincount(labels) / len(rows))
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def neighbours(rows: Array, labels: Labels, asked: Array) -> Array:
    """The share of each label among the nearest."""
    nearest = labels[np.argpartition(-(asked @ rows.T), NEIGHBOURS, axis=1)[:, :NEIGHBOURS]]
    return np.stack([(nearest == label).mean(axis=1) for label in range(labels.max() + 1)], axis=1)


def scores(answers: Array, labels: Labels) -> Iterator[tuple[str, Array]]:
    """Give every score of the given labels: the lower, the more doubtful."""
    own = answers[np.arange(len(labels)), labels]
    usual = np.array([own[labels == label].mean() for label in range(labels.max() + 1)])
    for name, values in (("", answers), (" by label", answers - usual)):
        given = values[np.arange(len(labels)), labels]
        others = values.copy()
        others[np.arange(len(labels)), labels] = -np.inf
        yield f"self-confidence{name}", given
        yield f"margin{name}", given - others.max(axis=1)


def main() -> None:
    """Print for each task what every probe and score finds, as the mean over the seeds and its least and largest."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", nargs="+", default=["bbc-news", "reuters-r8"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--max-length", type=int, default=128)
    arguments = parser.parse_args()
    print(environment(torch.get_num_threads()))
    with tempfile.TemporaryDirectory() as folder:
        for task in arguments.tasks:
            features, labels = features_of(Path(folder), task, arguments.max_length)
            found: dict[tuple[str, str], list[float]] = {}
            doubted = []
            for seed in range(arguments.seeds):
                noisy, wrong = flipped(labels, arguments.share, seed)
                for probe, answers in probes(features, noisy):
                    if probe == "chosen":
                        doubted.append(float((answers.argmax(axis=1) != noisy)[wrong].mean()))
                    for score, values in scores(answers, noisy):
                        first = np.argsort(values, kind="stable")[: wrong.sum()]
                        found.setdefault((probe, score), []).append(float(wrong[first].mean()))
            count = round(arguments.share * len(labels))
            print(f"{task}: {count} of {len(labels)} labels flipped; {mean(doubted):.3f} of them are suspects at all")
            for (probe, score), each in found.items():
                print(f"  {probe:<18} {score:<25} {mean(each):.3f} ({min(each):.3f} to {max(each):.3f})")


if __name__ == "__main__":
    main()
