"""How long commands take to answer, against what a user would type otherwise; paired runs, medians, ratios.

python benchmarks/startup.py [--runs N]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from limpet.home import init

PEERS = {
    "mlflow --version": [sys.executable, "-m", "mlflow", "--version"],
    "python -c 'import peft'": [sys.executable, "-c", "import peft"],
}


def seconds(command: list[str]) -> float:
    """Run a command to its end; wall-clock seconds."""
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    limpet = str(Path(sys.executable).with_name("limpet"))
    with tempfile.TemporaryDirectory() as folder:
        home = init(Path(folder) / "home", mlflow="off").path
        ours = {
            "limpet --help": [limpet, "--help"],
            "limpet adapter list": [limpet, "adapter", "list", "--home", str(home)],
        }
        commands = ours | PEERS
        for command in commands.values():
            seconds(command)
        # in turn, so that a slow minute of the machine meets all of them
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(runs):
            for name, command in commands.items():
                times[name].append(seconds(command))
    print(f"{'command':26} {'median s':>9} {'least':>7} {'most':>7}   ratio to " + ", ".join(PEERS))
    for name, values in times.items():
        ratios = (statistics.median(a / b for a, b in zip(values, times[peer], strict=True)) for peer in PEERS)
        shown = ", ".join(f"{ratio:.3f}" for ratio in ratios)
        print(f"{name:26} {statistics.median(values):9.3f} {min(values):7.3f} {max(values):7.3f}   {shown}")


if __name__ == "__main__":
    main()
