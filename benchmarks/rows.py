"""Tasks of very many rows: seconds and peak memory of `limpet task add`, and near duplicates that were planted.

python benchmarks/rows.py [--rows 1000000] [--wanted 1000] [--datasketch 20000] [--no-base] [--only some|all|library]

A file of JSON lines is made on the spot: texts of 15 to 25 words of an invented vocabulary, eight labels. One row in
a hundred repeats an earlier one with one word changed, or two in a row. `limpet task add` then draws so many rows to
train on and to evaluate on, and all of them, each in a process and a home of its own. A planted pair counts where its
Jaccard index of word 3-grams is 0.7 or more and one of the two was drawn for evaluation or validation: it is found
where the other one is in no other split. `--no-base` leaves out counting tokens, for which the base's tokenizer is
needed. The library's own MinHash and index (datasketch, if it is installed) sketch some rows for comparison.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

LIMPET = (sys.executable, "-m", "limpet")
LABELS, PLANTED = 8, 100
Splits = dict[str, set[str]]
VOCABULARY = [
    "".join(parts)
    for parts in product(
        ("ba", "ko", "re", "mi", "tu", "sel", "var", "ning", "po", "chi"),
        ("la", "do", "rin", "ka", "stu", "mer", "bo", "ves", "ta", "ny"),
        ("", "n", "s", "ra", "ing", "ed", "ly", "er", "el", "os"),
    )
]
LIBRARY = """
import json, sys, time
from datasketch import MinHash, MinHashLSH
index, start = MinHashLSH(threshold=0.7, num_perm=128), time.perf_counter()
for at, line in zip(range(int(sys.argv[2])), open(sys.argv[1])):
    words = json.loads(line)["text"].split()
    sketch = MinHash(num_perm=128)
    sketch.update_batch([" ".join(words[i : i + 3]).encode() for i in range(len(words) - 2)])
    index.query(sketch)
    index.insert(at, sketch)
print(time.perf_counter() - start)
"""


def texts(count: int) -> Iterator[tuple[str, str | None]]:
    """Yield texts, and beside one that was planted the earlier text that it repeats."""
    chance = random.Random(0)
    earlier: list[str] = []
    for number in range(count):
        if number % PLANTED == PLANTED - 1:
            original = earlier[chance.randrange(len(earlier))]
            words = original.split()
            at = chance.randrange(len(words) - 1)
            changed = chance.choice((1, 2))
            words[at : at + changed] = chance.choices(VOCABULARY, k=changed)
            yield " ".join(words), original
            continue
        text = " ".join(chance.choices(VOCABULARY, k=chance.randint(15, 25)))
        # not all of them, so that this process needs no memory either
        if number % 10 == 0:
            earlier.append(text)
        yield text, None


def write(path: Path, count: int) -> list[tuple[str, str]]:
    """Write the rows, and return the planted pairs that are near duplicates by the definition."""
    pairs = []
    with path.open("w") as file:
        for number, (text, original) in enumerate(texts(count)):
            file.write(json.dumps({"id": number, "text": text, "label": f"topic-{number % LABELS}"}) + "\n")
            if original is not None and jaccard(text, original) >= 0.7:
                pairs.append((original, text))
    return pairs


def jaccard(a: str, b: str) -> float:
    """Return the Jaccard index of the word 3-grams of two texts."""
    first, second = ({tuple(words[at : at + 3]) for at in range(len(words) - 2)} for words in (a.split(), b.split()))
    return len(first & second) / len(first | second)


def measured(command: Sequence[str]) -> tuple[float, float, str]:
    """Run a command, and return its seconds, the peak of its resident set in GiB, and what it printed."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(command, stdout=printed)
        _, status, usage = wait(process)
        printed.seek(0)
        if status:
            raise SystemExit(f"{' '.join(command)} failed")
        return time.perf_counter() - start, usage.ru_maxrss / 2**20, printed.read()


def wait(process: subprocess.Popen[bytes]) -> tuple[int, int, resource.struct_rusage]:
    """Wait for a process, and return its usage alone, not that of all children there ever were."""
    return os.wait4(process.pid, 0)


def added(
    folder: Path, rows: Path, options: Sequence[str], *, base: bool
) -> tuple[float, float, dict[str, set[str]]]:
    """Add a task in a home of its own; return seconds, GiB, and the texts of each split."""
    home = folder / f"home{len(options)}"
    made = [*LIMPET, "--home", str(home), "init"] + (["--base", "sample:minilm"] if base else [])
    subprocess.run(made, check=True, capture_output=True)
    command = [*LIMPET, "--home", str(home), "task", "add", "rows", "--data", f"jsonl:{rows}", "--json"]
    seconds, peak, _ = measured([*command, *options])
    import limpet
    from limpet.training.data.rows import read_rows

    opened = limpet.open(home)
    task = opened.task.show("rows")
    splits = {
        split.name: {str(row.text) for row in read_rows(opened.store, task, split.name)} for split in task.splits
    }
    return seconds, peak, splits


def planted(pairs: Sequence[tuple[str, str]], splits: Splits) -> tuple[int, int]:
    """Return how many planted pairs were found, and how many stand in two splits."""
    where = {text: name for name, texts in splits.items() for text in texts}
    drawn = [(where.get(a), where.get(b)) for a, b in pairs]
    found = sum(None in pair and set(pair) & {"evaluation", "validation"} != set() for pair in drawn)
    return found, sum(None not in pair and pair[0] != pair[1] for pair in drawn)


def main() -> None:
    """Make the file and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--wanted", type=int, default=1000)
    parser.add_argument("--datasketch", type=int, default=20_000)
    parser.add_argument("--no-base", action="store_true")
    parser.add_argument("--only", choices=("some", "all", "library"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = folder / "rows.jsonl"
        pairs = write(rows, asked.rows)
        print(f"{asked.rows:,} rows, {rows.stat().st_size / 1e6:.0f} MB, {len(pairs):,} near duplicates planted")
        print("before, 200,000 rows: 17 s and 0.88 GB with 1,000 wanted, for orientation")
        print(f"{'wanted':<22}{'seconds':>9}{'peak GiB':>10}{'found':>8}{'not found':>11}")
        size = str(asked.wanted)
        for what, options in (("some", ["--train-size", size, "--eval-size", size]), ("all", [])):
            if asked.only in (None, what):
                seconds, peak, splits = added(folder, rows, options, base=not asked.no_base)
                found, missed = planted(pairs, splits)
                label = f"{asked.wanted:,} and {asked.wanted:,}" if options else "all"
                print(f"{label:<22}{seconds:>9.1f}{peak:>10.2f}{found:>8,}{missed:>11,}", flush=True)
        if asked.only in (None, "library") and asked.datasketch:
            seconds, peak, _ = measured([sys.executable, "-c", LIBRARY, str(rows), str(asked.datasketch)])
            print(f"datasketch alone, {asked.datasketch:,} rows: {seconds:.1f} s, {peak:.2f} GiB")


if __name__ == "__main__":
    main()
