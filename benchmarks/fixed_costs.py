"""What a training and an answer cost whatever there is to learn: few short texts, on a small base and on a large one.

python benchmarks/fixed_costs.py [--runs N] [--megabytes 90,2000] [--beside LIMPET]

The bases are BERTs of random weights in float32, made here from a configuration. Each run is a process of its own, on
a copy of the same home, in turn with those of another `limpet` where one is named. Processor seconds are shown too:
on a machine that does other work meanwhile they tell more. The latency of answers, which a training times for two
seconds whatever the base, is left out.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from startup import Run, timed

from limpet.cli.terminal.quiet_libraries import silence
from limpet.home import init
from limpet.training.base import locate

# hidden size and layers by megabytes: 12 times the square of the hidden size is a layer, beside 30,522 words
SHAPES = {90: (384, 6), 2000: (1536, 16)}
ROWS = "".join(f"a text about number {number},{('odd', 'even')[number % 2]}\n" for number in range(64))


def make_base(folder: Path, megabytes: int, like: Path) -> Path:
    """Make a base of random weights, with the tokenizer of another."""
    import torch
    from transformers import BertConfig, BertModel

    hidden, layers = SHAPES[megabytes]
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        intermediate_size=4 * hidden,
    )
    BertModel(config).save_pretrained(folder)
    for file in like.iterdir():
        if file.name.startswith(("tokenizer", "vocab", "special_tokens")):
            shutil.copy(file, folder)
    return folder


def make_home(folder: Path, base: Path) -> Path:
    """Make a home with one task of few short texts."""
    rows = folder / "rows.csv"
    rows.write_text("text,label\n" + ROWS, encoding="utf-8")
    home = init(folder / "home", base=str(base), mlflow="off")
    home.task.add("parity", f"csv:{rows}", train_size=16, eval_size=16, max_length=16)
    return home.path


@dataclass(frozen=True)
class Side:
    """A `limpet`, and what its runs took, by what they did."""

    name: str
    program: str
    runs: dict[str, list[Run]]

    def go(self, home: Path) -> None:
        """Train and answer in a copy of a home."""
        with tempfile.TemporaryDirectory(dir=home.parent) as folder:
            own = str(shutil.copytree(home, Path(folder) / "home"))
            train = [self.program, "train", "parity", "--epochs", "1", "--home", own]
            predict = [self.program, "predict", "parity", "a text", "--home", own]
            for name, command in {"train": train, "predict": predict}.items():
                self.runs.setdefault(name, []).append(timed(command))


def measure(folder: Path, megabytes: int, programs: dict[str, str], *, runs: int) -> None:
    """Print what training and answering take on a base of this size."""
    like = init(folder / "like", base="sample:minilm", mlflow="off")
    base = make_base(folder / "base", megabytes, locate.check(like.store, like.base.show()))
    home = make_home(folder, base)
    sides = [Side(name, program, {}) for name, program in programs.items()]
    for side in sides:
        side.go(home)
        side.runs.clear()
    # in turn, so that a slow minute of the machine meets all of them
    for _ in range(runs):
        for side in sides:
            side.go(home)
    size = sum(file.stat().st_size for file in base.glob("*.safetensors")) / 1e6
    for what in ("train", "predict"):
        for side in sides:
            walls, processor = ([getattr(run, name) for run in side.runs[what]] for name in ("wall", "processor"))
            print(
                f"{size:7,.0f} {what:9} {side.name:8} {min(walls):12.2f} {statistics.median(walls):8.2f} "
                f"{min(processor):18.2f} {statistics.median(processor):8.2f}"
            )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--megabytes", default="90,2000")
    parser.add_argument("--beside", metavar="LIMPET", help="another limpet, such as that of an earlier commit")
    options = parser.parse_args()
    silence()
    os.environ["LIMPET_LATENCY_SECONDS"] = "0"
    programs = {"limpet": str(Path(sys.executable).with_name("limpet"))}
    if options.beside:
        programs = {"beside": options.beside, **programs}
    threads = os.environ.get("OMP_NUM_THREADS", os.cpu_count())
    print(f"{threads} thread{'s' * (threads != '1')}, load average {os.getloadavg()[0]:.1f}; seconds")
    print("base MB command   program   wall, least, median   processors, least, median")
    for megabytes in map(int, options.megabytes.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), megabytes, programs, runs=options.runs)
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
