"""How long commands take to answer, against what a user would type otherwise; paired runs, medians, ratios.

python benchmarks/startup.py [--runs N]

`limpet predict` answers one text with a LoRA of MiniLM, from files that were read before. Most of what it takes is
the import of the model's class by transformers, which is timed beside it. Processor seconds are shown too: on a
machine that does other work meanwhile they tell more.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from limpet.home import init
from limpet.training.learning.settings import TrainingSettings

PEERS = {
    "mlflow --version": [sys.executable, "-m", "mlflow", "--version"],
    "python -c 'import peft'": [sys.executable, "-c", "import peft"],
    "import of the model's class": [
        sys.executable,
        "-c",
        "from transformers.models.bert.modeling_bert import BertModel",
    ],
}
TEXT = "there is nothing wrong with this film"


@dataclass(frozen=True)
class Run:
    """What one run took: wall-clock seconds, and seconds of processors."""

    wall: float
    processor: float


def timed(command: list[str]) -> Run:
    """Run a command to its end, with what Python keeps of modules that it has compiled, as of installed ones."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, started = os.times(), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    wall, after = time.perf_counter() - started, os.times()
    user = after.children_user - before.children_user
    return Run(wall, user + after.children_system - before.children_system)


def make_home(folder: Path) -> Path:
    """Make a home with one version."""
    home = init(folder / "home", base="sample:minilm", mlflow="off")
    home.task.add("films", "sample:rotten-tomatoes", train_size=32, eval_size=16, max_length=32)
    home.train("films", TrainingSettings(epochs=1), monitor=False)
    return home.path


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    limpet = str(Path(sys.executable).with_name("limpet"))
    with tempfile.TemporaryDirectory() as folder:
        home = str(make_home(Path(folder)))
        ours = {
            "limpet --help": [limpet, "--help"],
            "limpet adapter list": [limpet, "adapter", "list", "--home", home],
            "limpet predict": [limpet, "predict", "films", TEXT, "--home", home],
        }
        commands = ours | PEERS
        for command in commands.values():
            timed(command)
        # in turn, so that a slow minute of the machine meets all of them
        times: dict[str, list[Run]] = {name: [] for name in commands}
        for _ in range(runs):
            for name, command in commands.items():
                times[name].append(timed(command))
    print(f"load average {os.getloadavg()[0]:.1f}; ratios of wall-clock seconds are to " + ", ".join(PEERS))
    print(f"{'command':28} {'median s':>9} {'least':>7} {'most':>7} {'processor s':>12}   ratios")
    for name, found in times.items():
        walls = [run.wall for run in found]
        peers = ([run.wall for run in times[peer]] for peer in PEERS)
        ratios = (statistics.median(a / b for a, b in zip(walls, peer, strict=True)) for peer in peers)
        shown = ", ".join(f"{ratio:.3f}" for ratio in ratios)
        processor = statistics.median(run.processor for run in found)
        middle = statistics.median(walls)
        print(f"{name:28} {middle:9.3f} {min(walls):7.3f} {max(walls):7.3f} {processor:12.3f}   {shown}")


if __name__ == "__main__":
    main()
