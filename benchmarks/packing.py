"""Would packing gain? Short texts in one row without seeing each other, beside batches of similar lengths, in turn.

python benchmarks/packing.py [--tokens 8-24,16-48,32-96] [--batch-size 16] [--repetitions 5] [--threads 2]

SmolLM2 with a LoRA of rank 8 on all linear layers, forward and back in the dtype that training takes here, loss on
every token. A batch is padded to a multiple of 8 as Limpet does it. Packed, its texts stand in one row one after the
other, with positions that begin anew, from which transformers makes a mask of blocks. Gradients of both are held
against each other: the largest difference, as a share of the largest gradient.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from _sides import environment
from torch.nn.functional import cross_entropy

from limpet.cli.terminal.quiet_libraries import silence
from limpet.home import init
from limpet.training import methods
from limpet.training.base.precision import autocast, resolve_dtype
from limpet.training.batching.batches import collate, training_batches
from limpet.training.model.fast_paths import fast_paths


def gradients(module: Any, head: Any, batch: tuple[dict[str, Any], Any], *, dtype: str) -> tuple[float, list[Any]]:
    """Return the processor seconds of a step, and the gradients of what is trained."""
    inputs, targets = batch
    parameters = [p for p in module.parameters() if p.requires_grad]
    started = time.process_time()
    with autocast("cpu", dtype):
        hidden = module(**inputs).last_hidden_state
        words = module.get_base_model().get_input_embeddings().weight
        there = targets >= 0
        loss = cross_entropy(head(hidden[there], words), targets[there])
    found = torch.autograd.grad(loss, parameters)
    return time.process_time() - started, list(found)


def padded(ids: list[list[int]]) -> tuple[dict[str, Any], Any]:
    """Each text in a row of its own: inputs, and the next word of each token."""
    inputs = collate(ids, 0)
    targets = torch.full_like(inputs["input_ids"], -100)
    for row, text in enumerate(ids):
        targets[row, : len(text) - 1] = torch.tensor(text[1:])
    return inputs, targets


def packed(ids: list[list[int]]) -> tuple[dict[str, Any], Any]:
    """All texts in one row."""
    row = torch.tensor([[token for text in ids for token in text]])
    positions = torch.cat([torch.arange(len(text)) for text in ids]).unsqueeze(0)
    targets = torch.tensor([[token for text in ids for token in (*text[1:], -100)]])
    return {"input_ids": row, "position_ids": positions, "attention_mask": None, "use_cache": False}, targets


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", default="8-24,16-48,32-96")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    silence()
    torch.set_num_threads(given.threads)
    dtype = resolve_dtype("auto")
    print(environment(given.threads))
    print(f"{'tokens':10}{'padding':>8}{'padded s':>10}{'packed s':>10}   packed to padded      gradients apart")
    with tempfile.TemporaryDirectory() as name:
        backbone = init(Path(name) / "home", base="sample:smollm2", mlflow="off").backbone()
        method = methods.get("lora")
        module = method.attach(backbone.model, method.resolve(backbone.model, {"r": 8}))
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.requires_grad:
                    parameter.normal_(std=0.02)
        generator = random.Random(0)
        for span in given.tokens.split(","):
            low, high = map(int, span.split("-"))
            texts = [
                [generator.randrange(1000, 40000) for _ in range(generator.randint(low, high))]
                for _ in range(16 * given.batch_size)
            ]
            batches = training_batches(list(map(len, texts)), given.batch_size, 0, epoch=0)[: given.repetitions + 1]
            seconds: list[tuple[float, float]] = []
            apart, filled, whole = 0.0, 0, 0
            head = backbone.language_head()
            with fast_paths(method, module, dtype):
                for batch in batches:
                    ids = [texts[index] for index in batch]
                    sides = [gradients(module, head, make(ids), dtype=dtype) for make in (padded, packed)]
                    seconds.append((sides[0][0], sides[1][0]))
                    largest = max(float(g.abs().max()) for g in sides[0][1])
                    pairs = zip(sides[0][1], sides[1][1], strict=True)
                    apart = max(apart, max(float((a - b).abs().max()) for a, b in pairs) / largest)
                    filled += sum(map(len, ids))
                    whole += padded(ids)[0]["input_ids"].numel()
            # the first prepares what the others find
            seconds = seconds[1:]
            ratios = [b / a for a, b in seconds]
            middle = [statistics.median(column) for column in zip(*seconds, strict=True)]
            print(
                f"{span:10}{1 - filled / whole:8.0%}{middle[0]:10.2f}{middle[1]:10.2f}   "
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})   {apart:.1e}",
                flush=True,
            )
    print(environment(given.threads))


if __name__ == "__main__":
    main()
