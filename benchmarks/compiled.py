"""What torch.compile would save: steps of learning with compiled layers and with layers as they are, in turn.

python benchmarks/compiled.py [--methods lora,full] [--repetitions 7] [--tokens 128] [--threads 2]

MiniLM, batches of 16 texts, computed as `limpet train` does. Every layer of the encoder is compiled by itself, so
one compilation serves all of them. Compiled and plain steps are timed in turn; the ratio is the median of plain to
compiled, pair by pair: above 1, compiled is the faster. `compiling` are the seconds of the first compiled step
(fewer where torch finds in its cache what an earlier run compiled), and `pays after` the number of steps after which
they are won back.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _sides import environment, spread

from limpet.cli.terminal.quiet_libraries import silence
from limpet.home import Home, init
from limpet.training import methods
from limpet.training.base.precision import autocast, resolve_dtype
from limpet.training.model.fast_paths import fast_paths

BATCH_SIZE = 16


def seconds(work: Callable[[], None]) -> float:
    """Wall-clock seconds of some work."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(home: Home, name: str, tokens: int, *, repetitions: int) -> tuple[float, list[float], list[float]]:
    """Seconds of the first compiled step, and of plain and compiled ones."""
    method, dtype, model = methods.get(name), resolve_dtype("auto"), home.backbone().model
    module: Any = method.attach(model, method.resolve(model, {}))
    base = module.get_base_model() if hasattr(module, "get_base_model") else module
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    torch.manual_seed(0)
    ids = torch.randint(1000, 20000, (BATCH_SIZE, tokens))
    mask = torch.ones_like(ids)
    # dropout acts where the base itself is learned
    module.train(method.capabilities.trains_base_copy)

    def step() -> None:
        with autocast("cpu", dtype):
            hidden = module(input_ids=ids, attention_mask=mask).last_hidden_state
        hidden.float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    plain, compiled = [], []
    with fast_paths(method, module, dtype):
        step()
        for layer in base.encoder.layer:
            layer.compile()
        first = seconds(step)
        step()
        made = [layer._compiled_call_impl for layer in base.encoder.layer]
        for _ in range(repetitions):
            for calls, found in ((made, compiled), ([None] * len(made), plain)):
                for layer, call in zip(base.encoder.layer, calls, strict=True):
                    layer._compiled_call_impl = call
                found.append(seconds(step))
    method.detach(module)
    return first, plain, compiled


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="lora,full")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    silence()
    torch.set_num_threads(given.threads)
    print(f"{environment(given.threads)}\n{BATCH_SIZE} texts of {given.tokens} tokens, seconds of a step\n")
    print(f"{'method':9}{'plain':24}{'compiled':24}{'times as fast':24}{'compiling':>10}   pays after", flush=True)
    for name in given.methods.split(","):
        with tempfile.TemporaryDirectory() as folder:
            home = init(Path(folder) / "home", base="sample:minilm", mlflow="off")
            first, plain, compiled = measure(home, name, given.tokens, repetitions=given.repetitions)
        ratios = [a / b for a, b in zip(plain, compiled, strict=True)]
        saved = statistics.median(a - b for a, b in zip(plain, compiled, strict=True))
        pays = f"{first / saved:,.0f} steps" if saved > 0 else "never"
        shown = f"{spread(plain, 3):24}{spread(compiled, 3):24}{spread(ratios, 2):24}"
        print(f"{name:9}{shown}{first:8.1f} s   {pays}", flush=True)
    print(environment(given.threads))


if __name__ == "__main__":
    main()
