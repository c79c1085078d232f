"""What activation checkpointing costs and gains: the same steps with it and without, in processes that take turns.

python benchmarks/checkpointing.py [--length 512] [--batch-size 2] [--steps 2] [--repetitions 3] [--threads 2]

SmolLM2 with a LoRA of rank 8, in the dtype that training takes here: texts of random words, a loss on the last 64 of
each. A step is computed in one piece. The peak is the largest resident memory of a process less what it had when the
base was loaded; each repetition is a new process.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from _sides import Side, environment, paired

_LEARNED = 64


@dataclass(frozen=True)
class Work:
    """What a side computes."""

    length: int
    batch_size: int
    steps: int


def peak_bytes() -> int:
    """Return the largest resident memory of this process so far."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def learn(work: Work, checkpointing: bool) -> tuple[float, int]:
    """Return the processor seconds of some steps, and the bytes that they added to the peak."""
    import torch

    from limpet.home import init
    from limpet.training import methods
    from limpet.training.base.precision import autocast, resolve_dtype
    from limpet.training.batching.batches import evaluation_plan
    from limpet.training.batching.encoded import Encoded, Field
    from limpet.training.heads.generation import GenerationConfig, GenerationHead
    from limpet.training.learning.objectives import TaskLoss
    from limpet.training.model.activation_checkpointing import activation_checkpointing
    from limpet.training.model.fast_paths import fast_paths
    from limpet.training.model.task_model import TaskModel, base_modules

    with tempfile.TemporaryDirectory() as name:
        backbone = init(Path(name) / "home", base="sample:smollm2", mlflow="off").backbone()
        frozen, method = base_modules(backbone), methods.get("lora")
        module = method.attach(backbone.model, method.resolve(backbone.model, {}))
        head = GenerationHead(GenerationConfig("generation", "none", backbone.record.hidden_size, 0))
        head.bind_base(backbone)
        model = TaskModel(module, head, frozen).train()
        draw = torch.Generator().manual_seed(0)
        ids = torch.randint(1000, 40000, (work.batch_size, work.length), generator=draw)
        places = Field([torch.arange(work.length - 1)[-_LEARNED:]] * work.batch_size, pointing=True)
        lengths = [work.length] * work.batch_size
        texts = Encoded(ids.tolist(), evaluation_plan(lengths), 0).having(
            places=places, targets=Field(list(ids[:, -_LEARNED:]))
        )
        loss = TaskLoss(texts, head, backbone.device, max_tokens_per_microbatch=None)
        dtype = resolve_dtype("auto")
        before, started = peak_bytes(), time.process_time()
        with (
            fast_paths(method, module, dtype),
            activation_checkpointing(model) if checkpointing else nullcontext(),
            autocast(backbone.device, dtype),
        ):
            for _ in range(work.steps):
                for part in loss.losses(model, range(work.batch_size)):
                    part.backward()  # type: ignore[no-untyped-call]
        return time.process_time() - started, peak_bytes() - before


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    work = Work(given.length, given.batch_size, given.steps)
    print(environment(given.threads), flush=True)
    sides: dict[bool, list[tuple[float, int]]] = {False: [], True: []}
    for _ in range(given.repetitions):
        for checkpointing, outcomes in sides.items():
            side = Side(given.threads)
            outcomes.append(side.do(learn, work, checkpointing))
            side.end()
    for checkpointing, outcomes in sides.items():
        seconds, added = (statistics.median(column) for column in zip(*outcomes, strict=True))
        name = "checkpointing" if checkpointing else "without"
        print(f"{name:14}{seconds:7.1f} processor s   {added / 2**20:7.0f} MiB added")
    (plain, again) = (list(zip(*sides[which], strict=True)) for which in (False, True))
    print(f"time {paired(again[0], plain[0])}, memory {paired(again[1], plain[1])} of that without")
    print(environment(given.threads))


if __name__ == "__main__":
    main()
