"""Run the benchmarks that docs/explanation/performance.md shows, and write what they print into it.

python benchmarks/run.py [--only NAME ...]

The document says what is run: a block with the title "python benchmarks/NAME.py OPTIONS" holds what that command
prints, on machines that compute in the dtype which the line below the title names. So a run on a processor without
bfloat16 leaves alone what was measured on one that has it, and adds a block of its own below. Each command runs by
itself, one after the other; what it prints is shown as it comes. A command that fails leaves its blocks as they were,
and the exit code is 1.
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

from limpet.cli.terminal.quiet_libraries import silence
from limpet.training.base.environment import current_environment
from limpet.training.base.precision import resolve_dtype

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "explanation" / "performance.md"
BLOCK = re.compile(
    r"^```text title=\"python (?P<command>benchmarks/.+)\"\n(?P<printed>(?:(?!```).*\n)*)```$", re.MULTILINE
)


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


def write(command: str, dtype: str, facts: str, *, printed: str) -> None:
    """Put what a command printed into its block of that dtype or an empty one, or into a new one below its last."""
    text = DOCUMENT.read_text(encoding="utf-8")
    fresh = f'```text title="python {command}"\n# {facts}\n{printed}```'
    blocks = [block for block in BLOCK.finditer(text) if block["command"] == command]
    own = [block for block in blocks if not block["printed"] or f", {dtype}, " in block["printed"].partition("\n")[0]]
    start, end = own[0].span() if own else (blocks[-1].end(), blocks[-1].end())
    DOCUMENT.write_text(text[:start] + ("" if own else "\n\n") + fresh + text[end:], encoding="utf-8")


def main() -> int:
    """Fill the document's blocks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="names of benchmarks, such as startup")
    wanted = parser.parse_args().only
    silence()
    dtype, failed = resolve_dtype("auto"), False
    here = current_environment(dtype)
    versions = f"torch {here.torch}, transformers {here.transformers}, peft {here.peft}"
    for command in dict.fromkeys(block["command"] for block in BLOCK.finditer(DOCUMENT.read_text(encoding="utf-8"))):
        if wanted and Path(shlex.split(command)[0]).stem not in wanted:
            continue
        print(f"\n$ python {command}", flush=True)
        printed = run(command)
        if printed is None:
            print(f"python {command} failed; its block is as it was", file=sys.stderr)
            failed = True
            continue
        write(command, dtype, f"{datetime.now(UTC):%Y-%m-%d}, {processor()}, {dtype}, {versions}", printed=printed)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
