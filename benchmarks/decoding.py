"""Greedy decoding beside transformers' `generate` at its best batch size, in the same run.

python benchmarks/decoding.py [--rows 64] [--new-tokens 24] [--sizes 16,32,64] [--repetitions 3] [--threads 1]

SmolLM2-135M-Instruct in bfloat16, where the processor multiplies that in hardware, else in float32; headlines are
asked for, of texts cut so that a prompt has 160 tokens. Both sides have the same token ids, sorted by length, the
same limit of new tokens and the same token that ends an answer; neither has an adapter. `generate` has a model that
is held in that dtype altogether, torch's fused attention, and the batch size that was fastest in a first round. Sides
are processes of their own and take turns; seconds are of their processors, as others work on the machine too.

Texts are held against each other in float32, where both have to write the same; in bfloat16 the two round elsewhere,
and a word that is nearly as probable as another may come in its place: how many texts that changes is printed, beside
how many of `generate`'s own change by it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from _sides import Side, environment, home_of, paired, spread

TASK = "headlines"


@dataclass(frozen=True)
class Work:
    """What `generate` has to write: the prompts' token ids, how many at once, and how many words of each."""

    prompts: list[list[int]]
    size: int
    new_tokens: int


@dataclass(frozen=True)
class Written:
    """What a side wrote, and the seconds of its processors and of the clock."""

    texts: list[str]
    processor_seconds: float
    seconds: float


def prepare(folder: Path, rows: int, new_tokens: int) -> list[list[int]]:
    """Make a home with the task, and return the prompts."""
    from limpet.home import init

    home = init(folder / "home", base="sample:smollm2", mlflow="off")
    home.task.add(
        TASK,
        "sample:bbc-news",
        type="generation",
        train_size=16,
        eval_size=rows,
        max_length=160,
        max_new_tokens=new_tokens,
    )
    return [list(ids) for ids in _prompts(folder)[1].ids]


@cache
def _prompts(folder: Path) -> tuple[Any, Any]:
    from limpet.training.data.stored_splits import read_split
    from limpet.training.heads.generation import GenerationHead
    from limpet.training.model.task_model import TaskModel, base_modules

    home = home_of(folder)
    backbone, task = home.backbone(), home.task.show(TASK)
    examples = read_split(home.store, task, "evaluation")
    head = GenerationHead(GenerationHead.configure(task, backbone.record, examples))
    head.bind_base(backbone)
    model = TaskModel(backbone.model, head, base_modules(backbone)).eval()
    return model, model.encode(backbone.tokenizer, examples, task.definition.max_length)


def write_limpet(folder: Path, dtype: str) -> Written:
    """Write as an evaluation does."""
    from limpet.training import methods
    from limpet.training.batching.inference import run_batches
    from limpet.training.model.fast_paths import fast_paths

    model, texts = _prompts(folder)
    started, clock = time.process_time(), time.perf_counter()
    with fast_paths(methods.get("partial"), model.module, dtype):
        outcome = run_batches(model, texts, "cpu", dtype=dtype)
    return Written(list(outcome.predictions), time.process_time() - started, time.perf_counter() - clock)


@cache
def _causal_model(folder: Path, dtype: str) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from limpet.training.base import locate

    home = home_of(folder)
    base = locate.check(home.store, home.base.show())
    model = AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, dtype), attn_implementation="sdpa")
    return model.eval(), AutoTokenizer.from_pretrained(base)


def write_generate(folder: Path, dtype: str, work: Work) -> Written:
    """Write by `generate`, in batches of texts of similar length, padded on the left."""
    import torch

    model, tokenizer = _causal_model(folder, dtype)
    prompts, size = work.prompts, work.size
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    texts = [""] * len(prompts)
    started, clock = time.process_time(), time.perf_counter()
    with torch.inference_mode():
        for first in range(0, len(order), size):
            rows = order[first : first + size]
            width = max(len(prompts[row]) for row in rows)
            ids = torch.zeros((len(rows), width), dtype=torch.int64)
            mask = torch.zeros_like(ids)
            for place, row in enumerate(rows):
                ids[place, width - len(prompts[row]) :] = torch.tensor(prompts[row])
                mask[place, width - len(prompts[row]) :] = 1
            written = model.generate(
                ids,
                attention_mask=mask,
                do_sample=False,
                max_new_tokens=work.new_tokens,
                pad_token_id=tokenizer.eos_token_id,
            )
            for row, answer in zip(rows, written, strict=True):
                texts[row] = tokenizer.decode(answer[width:], skip_special_tokens=True).strip()
    return Written(texts, time.process_time() - started, time.perf_counter() - clock)


def same(left: Sequence[str], right: Sequence[str]) -> int:
    """Count the texts that are the same."""
    return sum(a == b for a, b in zip(left, right, strict=True))


def main() -> int:
    """Print the comparison; 1 where the two do not write the same in float32."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=24)
    parser.add_argument("--sizes", default="16,32,64")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    from limpet.training.base.precision import resolve_dtype

    dtype = resolve_dtype("auto")
    print(
        f"{environment(given.threads)}\n{given.rows} prompts, {given.new_tokens} new tokens at the most", flush=True
    )
    ours, peer = Side(given.threads), Side(given.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        work = Work(ours.do(prepare, folder, given.rows, given.new_tokens), 1, given.new_tokens)
        exact = ours.do(write_limpet, folder, "float32")
        sizes = [int(size) for size in given.sizes.split(",")]
        tried = {size: peer.do(write_generate, folder, dtype, replace(work, size=size)) for size in sizes}
        best = min(tried, key=lambda size: tried[size].processor_seconds)
        peer_exact = peer.do(write_generate, folder, "float32", replace(work, size=best))
        agreed = same(exact.texts, peer_exact.texts)
        print(f"float32: {agreed} of {given.rows} texts are the same", flush=True)
        runs: dict[str, list[Written]] = {"limpet": [], "generate": []}
        for _ in range(given.repetitions):
            runs["limpet"].append(ours.do(write_limpet, folder, dtype))
            runs["generate"].append(peer.do(write_generate, folder, dtype, replace(work, size=best)))
    for side in (ours, peer):
        side.end()
    seconds = {name: [run.processor_seconds for run in found] for name, found in runs.items()}
    for name, found in runs.items():
        width = f", batches of {best}" if name == "generate" else ""
        text = same(found[0].texts, exact.texts)
        print(f"{name:9}{spread(seconds[name])} processor s, {text} texts as in float32{width}")
    print(f"{same(runs['limpet'][0].texts, runs['generate'][0].texts)} texts are the same in {dtype}")
    walls = {name: [run.seconds for run in found] for name, found in runs.items()}
    print(
        f"generate's time to limpet's: {paired(seconds['generate'], seconds['limpet'])}, "
        f"by the clock {paired(walls['generate'], walls['limpet'])}; median of the clock "
        f"{statistics.median(walls['limpet']):.1f} s to {statistics.median(walls['generate']):.1f} s"
    )
    print(environment(given.threads))
    return int(agreed != given.rows)


if __name__ == "__main__":
    raise SystemExit(main())
