"""Headlines of BBC articles: SmolLM2 as it is and with LoRA, on the same articles.

    python benchmarks/headlines.py FOLDER [--train N] [--eval N] [--epochs E] [--max-length L]

FOLDER is a new home. Prints ROUGE-L with bootstrap intervals over the articles, of the difference too, as JSON, and a
few headlines.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from limpet.forgetting.statistics import RESAMPLES, percentile_interval
from limpet.home import init, open_home
from limpet.training.data import read_split
from limpet.training.evaluate import run
from limpet.training.heads import build_head
from limpet.training.learn import TrainingSettings
from limpet.training.model import TaskModel, active, version_files
from limpet.training.text_metrics import rouge_l

TASK = "headlines"


def main() -> None:
    """Learn, write headlines twice, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=200)
    parser.add_argument("--eval", type=int, default=80)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--max-length", type=int, default=160)
    given = parser.parse_args()
    home = (
        open_home(given.folder) if given.folder.exists() else init(given.folder, base="sample:smollm2", mlflow="off")
    )
    task = home.task.add(
        TASK,
        "sample:bbc-news",
        type="generation",
        train_size=given.train,
        eval_size=given.eval,
        max_length=given.max_length,
        max_new_tokens=24,
    )
    backbone = home.backbone()
    examples = read_split(home.store, task, "evaluation")
    started = time.perf_counter()
    version = home.train(TASK, TrainingSettings("lora", epochs=given.epochs, batch_size=8)).version
    seconds = time.perf_counter() - started
    files = version_files(home.store, backbone, version)
    with active(backbone, version.method, files, files) as model:
        encoded = model.encode(backbone.tokenizer, examples, task.definition.max_length)
        learned = run(model, encoded, backbone.model.device).predictions
    head = build_head(task, backbone.record, [])
    head.bind(backbone)
    plain = run(TaskModel(backbone.model, head, frozenset()), encoded, backbone.model.device).predictions
    targets = [example.target for example in examples]
    scores = {
        name: np.array([rouge_l(one, target) for one, target in zip(written, targets, strict=True)])
        for name, written in (("lora", learned), ("zero-shot", plain))
    }
    scores["lora - zero-shot"] = scores["lora"] - scores["zero-shot"]
    drawn = np.random.default_rng(0).integers(len(targets), size=(RESAMPLES, len(targets)))
    report = {
        name: {"rouge-l": float(values.mean()), "interval": percentile_interval(values[drawn].mean(axis=1))}
        for name, values in scores.items()
    }
    facts = {
        "train": given.train,
        "eval": given.eval,
        "epochs": given.epochs,
        "max_length": given.max_length,
        "trainable_parameters": version.cost["trainable_parameters"],
        "bytes": version.size,
        "train_seconds": version.cost["train_seconds"],
        "examples_per_second": version.cost["examples_per_second"],
        "seconds_with_evaluation": seconds,
        "environment": vars(version.environment),
    }
    print(json.dumps({"scores": report, **facts}, indent=2))
    for target, first, second in list(zip(targets, plain, learned, strict=True))[:5]:
        print(f"target     {target}\nzero-shot  {first!r}\nlora       {second!r}\n")


if __name__ == "__main__":
    main()
