"""Every command of the guide "A 7B model on one GPU", run on a stand-in with random weights: does each end well?

python benchmarks/one_gpu.py [--layers 22]

The stand-in is that of `large.py`, with a chat template: 1.1 B parameters at 22 layers. Its words are made up, so
what it answers means nothing. Needs the extra `quantised`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from large import make_model

GUIDE = Path(__file__).parents[1] / "docs" / "guides" / "one-gpu.md"
NAMED = "Qwen/Qwen2.5-7B-Instruct"
_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }} {% if message['role'] == 'assistant' %}</s>{% endif %}"
    "{% endfor %}"
)
_WORDS, _ROWS, _LENGTH = 1000, 96, 24


def commands() -> list[str]:
    """Return the commands of the guide, in their order."""
    blocks = re.findall(r"```sh\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def make_rows(path: Path) -> None:
    """Write conversations of made-up words."""
    draw = random.Random(0)

    def words() -> str:
        return " ".join(f"w{draw.randrange(_WORDS)}" for _ in range(_LENGTH))

    with path.open("w", encoding="utf-8") as file:
        for _ in range(_ROWS):
            asked, answered = ({"role": role, "content": words()} for role in ("user", "assistant"))
            file.write(json.dumps({"messages": [asked, answered]}) + "\n")


def main() -> None:
    """Run each command, and print how long it took; the first that fails ends it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=22)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = make_model(folder / "model", given.layers)
        (model / "chat_template.jinja").write_text(_TEMPLATE, encoding="utf-8")
        make_rows(folder / "support.jsonl")
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        for command in commands():
            started = time.perf_counter()
            done = subprocess.run(
                command.replace(NAMED, str(model)),
                shell=True,
                executable=shutil.which("bash"),
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
            )
            print(f"{time.perf_counter() - started:7.1f} s  {command}", flush=True)
            if done.returncode:
                print(done.stdout + done.stderr)
                raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
