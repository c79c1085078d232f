"""Evaluation of a LoRA version beside the Trainer of transformers, as it comes and at its best, in the same run.

python benchmarks/evaluation.py [--tasks bbc-news,reuters-r8,election-tweets] [--quick] [--repetitions 3]
    [--eval-size 600] [--threads 2]

MiniLM, texts of up to 128 tokens. Limpet learns a LoRA of rank 8 on all linear layers and evaluates the version as
its monitor does. The peer reads the exported adapter and head by plain peft, and predicts the same texts: so all
sides give the same answers, but for rounding. As it comes, the Trainer computes in float32, in the data's order, in
batches of 8. At its best it has weights in bf16 where the processor multiplies that in hardware, texts sorted by
length, and the fastest of batches of 32 or 64 and of both implementations of attention, tried before.

`all of it` begins with texts and ends with answers: Limpet's has reading the split, putting the adapter in place and
keeping predictions in the registry, the peer's has tokenising. `the model` is without that. Sides stand in processes
of their own and work in turn. Peak memory is the resident set of the process meanwhile.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from _peer import ATTENTIONS, Examples, tokenised, trainer_for
from _sides import Side, environment, home_of, make_home, paired, spread

TASKS = ("bbc-news", "reuters-r8", "election-tweets")
MAX_LENGTH, TRAIN_SIZE, REHEARSAL = 128, 256, 128
LIMPET, DEFAULT, BEST = "limpet", "Trainer, default", "Trainer, best"


@dataclass(frozen=True)
class Job:
    """What one side has to answer; `folder` has the home, base, examples and exported adapter."""

    folder: Path
    task: str
    best: bool = False
    attention: str = ATTENTIONS[0]
    batch_size: int = 8
    limit: int | None = None

    @property
    def adapter(self) -> Path:
        """Where the exported adapter is."""
        return self.folder / f"{self.task}-adapter"


@dataclass(frozen=True)
class Run:
    """What an evaluation took, the peak of its process, and the answers in the order of the examples."""

    whole_seconds: float
    model_seconds: float
    peak_bytes: int
    answers: list[int]


def learn_limpet(job: Job) -> None:
    """Learn the version that is evaluated, and export it for the peer."""
    from limpet.training.learning.settings import TrainingSettings

    home = home_of(job.folder)
    version = home.train(job.task, TrainingSettings("lora", epochs=1), monitor=False).version
    home.adapter.export(version.reference, job.adapter)


def evaluate_limpet(job: Job) -> Run:
    """Evaluate as the monitor does."""
    from limpet.registry.records import evaluations
    from limpet.training.learning.runs import peak_memory as memory

    home = home_of(job.folder)
    home.backbone()
    mark, started = memory.begin(), time.perf_counter()
    (record,) = home.evaluate([f"{job.task}@1"])
    whole, reached = time.perf_counter() - started, memory.peak(mark)
    answers = evaluations.predictions(home.store, record)["predictions"]
    return Run(whole, record.seconds, reached.total if reached else 0, answers)


def evaluate_peer(job: Job) -> Run:
    """Evaluate by the Trainer's predict."""
    from transformers import AutoTokenizer

    from limpet.training.base.environment import bf16_is_fast
    from limpet.training.learning.runs import peak_memory as memory

    tokenizer = AutoTokenizer.from_pretrained(job.folder / "base")
    examples = Examples.read(job.folder / f"{job.task}.json").evaluation[: job.limit]
    mark = memory.begin()
    model = classifier(job)
    started = time.perf_counter()
    rows = tokenised(tokenizer, examples, MAX_LENGTH)
    order = list(range(len(rows)))
    if job.best:
        order.sort(key=lambda index: len(rows[index]["input_ids"]))
    low = job.best and bf16_is_fast()
    trainer = trainer_for(model, tokenizer, None, per_device_eval_batch_size=job.batch_size, bf16_full_eval=low)
    # without targets the Trainer asks for no loss
    asked = [{name: rows[index][name] for name in ("input_ids", "attention_mask")} for index in order]
    found = trainer.predict(asked)
    answers = [0] * len(rows)
    for index, answer in zip(order, found.predictions.argmax(-1).tolist(), strict=True):
        answers[index] = answer
    whole, reached = time.perf_counter() - started, memory.peak(mark)
    return Run(whole, found.metrics["test_runtime"], reached.total if reached else 0, answers)


def classifier(job: Job) -> Any:
    """Load what Limpet exported: the adapter by plain peft, and one linear layer over the mean of the text."""
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file
    from torch import Tensor, nn
    from transformers import AutoModel

    class Classifier(nn.Module):
        def __init__(self, encoder: nn.Module, weights: Mapping[str, Tensor]) -> None:
            super().__init__()
            self.encoder = encoder
            self.linear = nn.Linear(*reversed(weights["weight"].shape))
            self.linear.load_state_dict(weights)

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
            hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
            return {"logits": self.linear((hidden * mask).sum(dim=1) / mask.sum(dim=1))}

    base = AutoModel.from_pretrained(job.folder / "base", attn_implementation=job.attention, dtype=torch.float32)
    encoder = PeftModel.from_pretrained(base, job.adapter)
    return Classifier(encoder, load_file(job.adapter / "head.safetensors")).eval()


def at_its_best(side: Side, job: Job) -> Job:
    """Try every attention with every batch size in turn, twice, and return the fastest job."""
    jobs = [
        replace(job, best=True, attention=attention, batch_size=size) for attention in ATTENTIONS for size in (32, 64)
    ]
    seconds = [
        [side.do(evaluate_peer, replace(one, limit=REHEARSAL)).model_seconds for one in jobs] for _ in range(2)
    ]
    best = [min(of_job) for of_job in zip(*seconds, strict=True)]
    return jobs[best.index(min(best))]


def compare(sides: Mapping[str, Side], folder: Path, task: str, *, repetitions: int) -> None:
    """Let every side evaluate the task in turn, and print what it took."""
    job = Job(folder, task)
    jobs = {LIMPET: job, DEFAULT: job, BEST: at_its_best(sides[BEST], job)}
    sides[DEFAULT].do(evaluate_peer, replace(job, limit=16))
    runs: dict[str, list[Run]] = {name: [] for name in sides}
    for number in range(repetitions):
        # who comes first changes, so that nobody always meets the processor at its coolest
        for name in [*sides][number % len(sides) :] + [*sides][: number % len(sides)]:
            runs[name].append(sides[name].do(evaluate_limpet if name == LIMPET else evaluate_peer, jobs[name]))
    targets = [target for _, target in Examples.read(folder / f"{task}.json").evaluation]
    ours = runs[LIMPET][0].answers
    print(f"\n{task}, {len(targets)} texts")
    print(f"{'examples/s':18}{'all of it':24}{'the model':24}{'peak MiB':>8}{'accuracy':>10}{'as limpet':>11}")
    whole = {name: [len(targets) / run.whole_seconds for run in found] for name, found in runs.items()}
    alone = {name: [len(targets) / run.model_seconds for run in found] for name, found in runs.items()}
    for name, found in runs.items():
        answers = found[0].answers
        print(
            f"{name:18}{spread(whole[name]):24}{spread(alone[name]):24}"
            f"{statistics.median(run.peak_bytes for run in found) / 2**20:8.0f}"
            f"{same(answers, targets):10.3f}{same(answers, ours):11.3f}"
        )
    for name in (DEFAULT, BEST):
        memory = statistics.median(a.peak_bytes / b.peak_bytes for a, b in zip(runs[LIMPET], runs[name], strict=True))
        print(
            f"to {name}: {paired(whole[LIMPET], whole[name])} times as fast, "
            f"the model {paired(alone[LIMPET], alone[name])}, memory {memory:.2f}"
        )
    print(f"the best had {jobs[BEST].attention} attention and batches of {jobs[BEST].batch_size}", flush=True)


def same(some: list[int], others: list[int]) -> float:
    """The share of equal values."""
    return statistics.mean(float(a == b) for a, b in zip(some, others, strict=True))


def main() -> None:
    """Print the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--eval-size", type=int, default=600)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="few examples of one task, once: a trial of the script")
    given = parser.parse_args()
    tasks, train_size = given.tasks.split(","), TRAIN_SIZE
    if given.quick:
        tasks, given.repetitions, given.eval_size, train_size = tasks[:1], 1, 64, 64
    print(f"{environment(given.threads)}\n{given.repetitions} repetition(s)", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clerk = Side(given.threads)
        clerk.do(partial(make_home, eval_size=given.eval_size, max_length=MAX_LENGTH), folder, tasks, train_size)
        # in a process that ends: what training leaves behind is no part of an evaluation's peak
        for task in tasks:
            clerk.do(learn_limpet, Job(folder, task))
        clerk.end()
        sides = {name: Side(given.threads) for name in (LIMPET, DEFAULT, BEST)}
        for task in tasks:
            compare(sides, folder, task, repetitions=given.repetitions)
        for side in sides.values():
            side.end()
    print(environment(given.threads))


if __name__ == "__main__":
    main()
