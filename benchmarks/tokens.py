"""How many tokens to compute at once: texts a second by the size of a batch, for evaluation and for learning.

python benchmarks/tokens.py [--lengths 32,64,128] [--sizes 512,1024,2048,4096] [--repetitions 5] [--threads 2]

The number of `limpet.training.batching.batches.MAX_TOKENS_PER_MICROBATCH` comes from here. MiniLM with a LoRA of rank
8, computed as Limpet does: `evaluation` without gradients, `learning` forward and back. Sizes are tokens of a batch,
none of them padding; they are taken in turn, as often each as it takes for the largest batch's texts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from _sides import environment

from limpet.cli.terminal.quiet_libraries import silence
from limpet.home import init
from limpet.training import methods
from limpet.training.base.precision import autocast, resolve_dtype
from limpet.training.model.fast_paths import fast_paths


def evaluate(module: Any, ids: Any) -> None:
    """Compute hidden states, and nothing for a backward pass."""
    with torch.inference_mode():
        module(input_ids=ids, attention_mask=torch.ones_like(ids))


def learn(module: Any, ids: Any) -> None:
    """Compute hidden states and the gradients of the adapter."""
    module(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state.float().mean().backward()
    module.zero_grad(set_to_none=True)


def rates(work: Any, module: Any, length: int, *, sizes: list[int], repetitions: int) -> list[float]:
    """Texts a second for batches of so many tokens: the median over repetitions."""
    texts = torch.randint(1000, 20000, (max(sizes) // length, length))
    found: list[list[float]] = [[] for _ in sizes]
    for _ in range(repetitions + 1):
        for size, seconds in zip(sizes, found, strict=True):
            started = time.perf_counter()
            for batch in texts.split(max(1, size // length)):
                work(module, batch)
            seconds.append(time.perf_counter() - started)
    # the first round prepares what the others find
    return [len(texts) / statistics.median(seconds[1:]) for seconds in found]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", default="32,64,128")
    parser.add_argument("--sizes", default="512,1024,2048,4096")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    sizes = [int(size) for size in given.sizes.split(",")]
    silence()
    torch.set_num_threads(given.threads)
    print(f"{environment(given.threads)}\ntexts a second, by tokens at once; {given.repetitions} repetitions\n")
    print(f"{'':12}{'tokens a text':>13}" + "".join(f"{size:>9,}" for size in sizes), flush=True)
    method, dtype = methods.get("lora"), resolve_dtype("auto")
    with tempfile.TemporaryDirectory() as folder:
        model = init(Path(folder) / "home", base="sample:minilm", mlflow="off").backbone().model
    module = method.attach(model, method.resolve(model, {})).eval()
    with fast_paths(method, module, dtype), autocast("cpu", dtype):
        for name, work in (("evaluation", evaluate), ("learning", learn)):
            for length in map(int, given.lengths.split(",")):
                found = rates(work, module, length, sizes=sizes, repetitions=given.repetitions)
                print(f"{name:12}{length:13}" + "".join(f"{rate:9.1f}" for rate in found), flush=True)
    print(environment(given.threads))


if __name__ == "__main__":
    main()
