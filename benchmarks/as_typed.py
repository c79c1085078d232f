"""A training on 15 rows and one answer as a user types them: with the mirror, the latency and all; paired runs.

python benchmarks/as_typed.py [--runs N] [--beside LIMPET]

Every run is a process of its own on `sample:minilm`, from files that were read before, in turn with those of another
`limpet` where one is named. A mirror that goes on after a training is waited for between two runs, and not timed.
Processor seconds are shown too: on a machine that does other work meanwhile they tell more.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from startup import Run, timed

ROWS = {
    "technical": ("my laptop does not start", "the screen is black", "the app crashes", "wifi does not work"),
    "billing": ("the invoice is wrong", "I was charged twice", "refund my money", "my card was declined"),
    "shipping": ("where is my parcel", "the package is late", "the box was damaged", "it went to a neighbour"),
    "other": ("what are your hours", "thank you for your help", "I have a question"),
}
COMMANDS = ("train", "predict")


@dataclass(frozen=True)
class Side:
    """A `limpet` with a home of its own, and what its runs took, by command."""

    program: str
    home: Path
    runs: dict[str, list[Run]] = field(default_factory=lambda: {name: [] for name in COMMANDS})

    def prepare(self, rows: Path) -> None:
        """Make the home and run everything once."""
        home = ["--home", str(self.home), "--quiet"]
        subprocess.run([self.program, "init", "--base", "sample:minilm", *home], check=True, capture_output=True)
        add = [self.program, "task", "add", "routing", "--data", f"csv:{rows}", *home]
        subprocess.run(add, check=True, capture_output=True)
        self.go(seed=0)
        for runs in self.runs.values():
            runs.clear()

    def go(self, seed: int) -> None:
        """Train and answer once."""
        commands = {
            "train": ["train", "routing", "--seed", str(seed)],
            "predict": ["predict", "routing", "my router is broken"],
        }
        for name, words in commands.items():
            self.runs[name].append(timed([self.program, *words, "--home", str(self.home)]))
            self._wait_for_the_mirror()

    def _wait_for_the_mirror(self) -> None:
        lock = self.home / "mirror-process.lock"
        if lock.exists():
            with lock.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--beside", metavar="LIMPET", help="another limpet, such as that of an earlier commit")
    options = parser.parse_args()
    programs = {"limpet": str(Path(sys.executable).with_name("limpet"))}
    if options.beside:
        programs = {"beside": options.beside, **programs}
    print(f"load average {os.getloadavg()[0]:.1f}; seconds")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = folder / "rows.csv"
        lines = [f"{text},{label}\n" for label, texts in ROWS.items() for text in texts]
        rows.write_text("text,label\n" + "".join(lines), encoding="utf-8")
        sides = {key: Side(program, folder / key) for key, program in programs.items()}
        for side in sides.values():
            side.prepare(rows)
        # in turn, so that a slow minute of the machine meets all of them
        for seed in range(1, options.runs + 1):
            for side in sides.values():
                side.go(seed)
    print("command   program   wall, least, median   processors, least, median")
    for what in COMMANDS:
        for key, side in sides.items():
            walls, processor = ([getattr(run, part) for run in side.runs[what]] for part in ("wall", "processor"))
            print(
                f"{what:9} {key:8} {min(walls):12.2f} {statistics.median(walls):8.2f} "
                f"{min(processor):18.2f} {statistics.median(processor):8.2f}"
            )
        if options.beside:
            pairs = list(zip(sides["limpet"].runs[what], sides["beside"].runs[what], strict=True))
            wall = statistics.median(now.wall / before.wall for now, before in pairs)
            processor_ratio = statistics.median(now.processor / before.processor for now, before in pairs)
            print(f"{what:9} ratio: {wall:.2f} of the wall seconds, {processor_ratio:.2f} of the processors'")
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
