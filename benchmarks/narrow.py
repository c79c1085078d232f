"""Products with a few columns, as a LoRA's gradients are: as they are written, and with the columns as rows.

python benchmarks/narrow.py [--ranks 4,8,12,16,32] [--widths 384,1536] [--rows 2048] [--repetitions 15] [--threads 2]

`gradient of B` is g'h of gradients g (rows, width) and inner values h (rows, rank), against (h'g)'. `to inner` is g B
of B (width, rank), against the same with B laid out by its columns. In the dtype that training takes here; the ratio
is the median over pairs of how many times as long the first takes: above 1, the second is the faster. The number of
`limpet.training.methods._low_rank` comes from here.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from _sides import environment, spread
from torch import Tensor

from limpet.training.base.precision import resolve_dtype


def seconds(work: Callable[[], Tensor], times: int = 10) -> float:
    """Wall-clock seconds of one call, over some calls."""
    started = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - started) / times


def ratios(written: Callable[[], Tensor], turned: Callable[[], Tensor], repetitions: int) -> list[float]:
    """How many times as long the first takes, pair by pair; the first pair is not counted."""
    return [seconds(written) / seconds(turned) for _ in range(repetitions + 1)][1:]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", default="4,8,12,16,32")
    parser.add_argument("--widths", default="384,1536")
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    dtype = getattr(torch, resolve_dtype("auto"))
    print(f"{environment(given.threads)}\n{given.rows:,} rows, {given.repetitions} repetitions, {dtype}\n")
    print(f"{'width':>6}{'rank':>6}   {'gradient of B':24}to inner", flush=True)
    for width in map(int, given.widths.split(",")):
        for rank in map(int, given.ranks.split(",")):
            torch.manual_seed(0)
            g, h, b = (
                torch.randn(*size).to(dtype) for size in ((given.rows, width), (given.rows, rank), (width, rank))
            )
            of_b = ratios(lambda g=g, h=h: g.t() @ h, lambda g=g, h=h: (h.t() @ g).t(), given.repetitions)
            inner = ratios(lambda g=g, b=b: g @ b, lambda g=g, b=b: g @ b.t().contiguous().t(), given.repetitions)
            print(f"{width:6}{rank:6}   {spread(of_b, 2):24}{spread(inner, 2)}", flush=True)
    print(environment(given.threads))


if __name__ == "__main__":
    main()
