"""What an adapter adds to the time of an answer, attached and merged: in turn on the same texts, ratios of pairs.

python benchmarks/merged.py [--base SPEC] [--methods lora,ia3,bottleneck] [--requests N]

Each method learns a few steps of a sample task. Then base, adapter and merged model answer the same requests in turn:
one example at a time, and eight at a time. The ratio is the median over pairs, with its bootstrap interval.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from limpet.cli.terminal.quiet_libraries import silence
from limpet.home import Home, init
from limpet.registry import versions
from limpet.registry.records import tasks
from limpet.registry.values import VersionRecord
from limpet.training import methods
from limpet.training.base.shared_copy import shared_copy
from limpet.training.batching.batches import PAD_TO
from limpet.training.batching.encoded import encode_texts
from limpet.training.data.stored_splits import read_split
from limpet.training.evaluation.latency import answers, paired_ratio, time_in_turn
from limpet.training.learning.settings import TrainingSettings
from limpet.training.merging.merge import merged
from limpet.training.model.task_model import TaskModel, active, bound_head

TASK = "bbc-news"
SIZES = (1, 8)


def requests(home: Home, size: int) -> list[dict[str, Tensor]]:
    """Return 16 batches of `size` texts of the evaluation split."""
    examples = read_split(home.store, tasks.get(home.store, TASK), "evaluation")[: 16 * size]
    encoded = encode_texts(home.backbone().tokenizer, [example.text for example in examples], 8 * PAD_TO)
    return [encoded.batch(range(start, start + size)) for start in range(0, len(examples), size)]


def interval(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """95 % bootstrap interval of the median ratio."""
    ratios = np.array(a) / np.array(b)
    drawn = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return float(low), float(high)


def measure(
    home: Home, version: VersionRecord, size: int, *, count: int
) -> list[tuple[str, list[float], list[float]]]:
    """Return by name the seconds of an answer, each with the base's."""
    backbone, files = home.backbone(), versions.files(home.store, version)
    batches: list[Mapping[str, Tensor]] = list(requests(home, size))
    base = TaskModel(backbone.model, bound_head(backbone, files), frozenset()).eval()
    beside = replace(backbone, model=shared_copy(backbone.model))
    rows = []
    with active(beside, version.method, files, head=files) as model:
        rows.append(
            (
                version.method,
                *time_in_turn([answers(model), answers(base)], batches, float("inf"), least=count, most=count),
            )
        )
        if methods.get(version.method).capabilities.mergeable:
            with merged(backbone, version.method, files, head=files) as plain:
                times = time_in_turn([answers(plain), answers(base)], batches, float("inf"), least=count, most=count)
                rows.append((f"{version.method}, merged", *times))
                difference = furthest(plain, model, batches)
                print(f"{version.method}: merged and attached logits differ by at most {difference:.1e}")
    return rows


def furthest(a: TaskModel, b: TaskModel, batches: Sequence[Mapping[str, Tensor]]) -> float:
    """Return the largest difference of a logit."""
    with torch.inference_mode():
        return max(float((a(**batch) - b(**batch)).abs().max()) for batch in batches)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="sample:minilm")
    parser.add_argument("--methods", default="lora,ia3,bottleneck,prefix")
    parser.add_argument("--requests", type=int, default=150)
    options = parser.parse_args()
    silence()
    threads, tokens = torch.get_num_threads(), 8 * PAD_TO
    print(f"{options.base}, {threads} threads, {options.requests} requests of {tokens} tokens at most")
    with tempfile.TemporaryDirectory() as folder:
        home = init(Path(folder) / "home", base=options.base, mlflow="off")
        home.task.add(TASK, f"sample:{TASK}", train_size=64, eval_size=200)
        rows = []
        for name in options.methods.split(","):
            version = home.train(TASK, TrainingSettings(method=name, epochs=1), monitor=False).version
            rows += [(size, *row) for size in SIZES for row in measure(home, version, size, count=options.requests)]
    print(f"{'method':20} {'batch':>5} {'median ms':>10} {'base ms':>9} {'ratio':>7}   95 % interval")
    for size, name, times, base in rows:
        low, high = interval(times, base)
        own, alone = (1000 * float(np.median(values)) for values in (times, base))
        ratio = paired_ratio(times, base)
        print(f"{name:20} {size:5} {own:10.2f} {alone:9.2f} {ratio:7.3f}   {low:.3f} to {high:.3f}")


if __name__ == "__main__":
    main()
