"""What implementation of attention is the faster one: plain products ("eager") or torch's fused one ("sdpa").

python benchmarks/attention.py [--bases sample:minilm] [--lengths 32,48,64,128,256] [--repetitions 7]

The rule of `limpet.training.model.fast_paths` comes from here. Batches are of 2,048 tokens and at least 4 rows,
every second one a little padded; products are in bfloat16, with weights cast once, where the processor multiplies it
in hardware, and in float32 elsewhere. `forward` is in inference mode, `learning` is forward and backward down to the
embeddings. Both are timed in turn; the ratio is the median of plain to fused, pair by pair: above 1, fused is the
faster. `head` is how wide one is.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _sides import environment, spread

from limpet.cli.terminal.quiet_libraries import silence
from limpet.home import init
from limpet.training.base.precision import autocast, resolve_dtype

TOKENS = 2048
IMPLEMENTATIONS = ("eager", "sdpa")


def forward(model: Any, ids: Any, mask: Any) -> None:
    """Compute hidden states, and nothing for a backward pass."""
    with torch.inference_mode():
        model(input_ids=ids, attention_mask=mask)


def learning(model: Any, ids: Any, mask: Any) -> None:
    """Compute hidden states and the gradient of the embeddings."""
    embedded = model.get_input_embeddings()(ids).detach().requires_grad_(True)
    model(inputs_embeds=embedded, attention_mask=mask).last_hidden_state.float().sum().backward()


def ratio(model: Any, work: Callable[[], None], repetitions: int) -> list[float]:
    """Plain to fused, pair by pair; one uncounted turn of both before."""
    found = []
    for _ in range(repetitions + 1):
        seconds = {}
        for name in IMPLEMENTATIONS:
            model.config._attn_implementation = name
            started = time.perf_counter()
            work()
            seconds[name] = time.perf_counter() - started
        found.append(seconds["eager"] / seconds["sdpa"])
    return found[1:]


def batch(length: int) -> tuple[Any, Any]:
    """Token ids and mask; every second row ends five tokens early."""
    torch.manual_seed(0)
    ids = torch.randint(1000, 20000, (max(4, TOKENS // length), length))
    mask = torch.ones_like(ids)
    mask[::2, length - 5 :] = 0
    return ids, mask


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bases", default="sample:minilm")
    parser.add_argument("--lengths", default="32,48,64,128,256")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    silence()
    torch.set_num_threads(given.threads)
    dtype = resolve_dtype("auto")
    print(f"{environment(given.threads)}\nplain to fused attention, {given.repetitions} repetitions\n")
    print(f"{'base':18}{'head':>5}{'tokens':>8}   {'forward':22}learning", flush=True)
    for base in given.bases.split(","):
        with tempfile.TemporaryDirectory() as folder:
            model = init(Path(folder) / "home", base=base, mlflow="off").backbone().model
        for layer in model.modules():
            if isinstance(layer, torch.nn.Linear):
                layer.to(getattr(torch, dtype))
        width = model.config.hidden_size // model.config.num_attention_heads
        for length in map(int, given.lengths.split(",")):
            with autocast("cpu", dtype):
                found = [
                    ratio(model, partial(work, model, *batch(length)), given.repetitions)
                    for work in (forward, learning)
                ]
            shown = "".join(f"{spread(values, 2):22}" for values in found)
            print(f"{base:18}{width:5}{length:8}   {shown.rstrip()}", flush=True)
    print(environment(given.threads))


if __name__ == "__main__":
    main()
