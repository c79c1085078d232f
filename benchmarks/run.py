"""Run the benchmarks that docs/performance.md shows, and write what they print into it.

python benchmarks/run.py [--only NAME ...]

The document says what is run: a block that begins with ```text python benchmarks/NAME.py OPTIONS holds what that
command prints. Each runs alone, one after the other; what it prints is shown as it comes. A command that fails leaves
its block as it was, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import platform
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from limpet.cli._chatter import silence
from limpet.training.environment import current_environment

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "performance.md"
BLOCK = re.compile(r"^```text python (?P<command>benchmarks/.+)\n(?P<printed>(?:(?!```).*\n)*)```$", re.MULTILINE)


def run(command: str) -> str | None:
    """Run a benchmark, show what it prints as it comes, and return that; null where it failed."""
    words = [sys.executable, *shlex.split(command)]
    lines = []
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip())
    return None if process.returncode else "\n".join(lines).strip("\n") + "\n"


def processor() -> str:
    """Name the processor."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def main() -> int:
    """Fill the document's blocks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="names of benchmarks, such as startup")
    wanted = parser.parse_args().only
    silence()
    here, failed = current_environment("float32"), False
    for block in list(BLOCK.finditer(DOCUMENT.read_text(encoding="utf-8"))):
        command = block["command"]
        if wanted and Path(shlex.split(command)[0]).stem not in wanted:
            continue
        print(f"\n$ python {command}", flush=True)
        printed = run(command)
        if printed is None:
            print(f"python {command} failed; its block is as it was", file=sys.stderr)
            failed = True
            continue
        facts = f"{datetime.now(UTC):%Y-%m-%d}, {processor()}, torch {here.torch}, transformers {here.transformers}"
        text = DOCUMENT.read_text(encoding="utf-8")
        fresh = f"```text python {command}\n# {facts}, peft {here.peft}\n{printed}```"
        found = next(one for one in BLOCK.finditer(text) if one["command"] == command)
        DOCUMENT.write_text(text[: found.start()] + fresh + text[found.end() :], encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
