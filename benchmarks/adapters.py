"""Many LoRA adapters on one base: switching, mixed batches and memory, beside peft in the same run.

python benchmarks/adapters.py [--quick] [--runs N] [--folder FOLDER]

The base is MiniLM (`sample:minilm`), the adapters are LoRA of rank 8 on all linear layers, with random tensors, each
registered as a version of its own. What is compared is timed in turn, so that a slow moment of the machine meets
both; a ratio is the median of the ratios, pair by pair. peft loads its adapters from one folder, whose file is in the
page cache. It gets up to 100 of them: its loading slows down with each.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from limpet.home import Home, init, open_home
from limpet.registry import versions
from limpet.registry.records import tasks
from limpet.registry.values import VersionDraft
from limpet.training import methods
from limpet.training.base import locate
from limpet.training.base.environment import current_environment
from limpet.training.model.head_files import build_head, save_head
from limpet.training.serving.lora_slots import CacheSlot

ROWS, TOKENS = 64, 32
PEFT_ADAPTERS = 100
TEXT = "there is nothing wrong with a film that says what it has to say and then comes to an end as this one does"


def make_home(folder: Path, count: int) -> Home:
    """Register so many versions of one task."""
    home = init(folder / "home", base="sample:minilm", mlflow="off")
    home.task.add("films", "sample:rotten-tomatoes", train_size=32, eval_size=16, max_length=TOKENS)
    task, backbone, lora = tasks.get(home.store, "films"), home.backbone(), methods.get("lora")
    config = lora.resolve(backbone.model, {})
    files = folder / "adapter"
    files.mkdir()
    module = lora.attach(backbone.model, config)
    lora.save(module, backbone.record.name, files)
    lora.detach(module)
    shapes = {name: tensor.shape for name, tensor in load_file(files / "adapter_model.safetensors").items()}
    for seed in range(count):
        torch.manual_seed(seed)
        tensors = {name: 0.02 * torch.randn(shape) for name, shape in shapes.items()}
        save_file(tensors, files / "adapter_model.safetensors", metadata={"format": "pt"})
        save_head(build_head(task, backbone.record, ()), files)
        draft = VersionDraft(
            task=task.name,
            method=lora.name,
            config={"method": config, "max_length": TOKENS},
            base_digest=backbone.record.digest,
            data_digest=task.data_digest,
            labels=task.labels,
            seed=seed,
            environment=current_environment("float32"),
            metrics={},
            cost={},
        )
        versions.register(home.store, draft, {path.name: path for path in files.iterdir()})
    return home


def milliseconds(call: Callable[[], object]) -> float:
    """Call once; wall-clock milliseconds."""
    started = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - started)


def in_turn(runs: int, calls: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Time every call so often, one after the other; once before, uncounted."""
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(runs):
        for name, call in calls.items():
            times[name].append(milliseconds(call))
    return times


def ratio(times: dict[str, list[float]], name: str, other: str) -> float:
    """The median of one call's times divided by another's, pair by pair."""
    return statistics.median(a / b for a, b in zip(times[name], times[other], strict=True))


def spread(values: Sequence[float]) -> str:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:9.3f} {low:9.3f} {high:9.3f}"


def peft_model(home: Home, folder: Path) -> Any:
    """Load the base once more, with one adapter by plain peft."""
    from peft import PeftModel
    from transformers import AutoModel

    base = AutoModel.from_pretrained(folder / "base", attn_implementation="eager", dtype=torch.float32)
    return PeftModel.from_pretrained(base.eval(), folder / "adapter", adapter_name="a0").eval()


def switching(home: Home, count: int, runs: int, *, peft: Any, folder: Path) -> None:
    """Print how long it takes until another adapter is the one that answers."""
    server, loaded, loads = home.serve(), 1, []
    print(f"{'adapters':>8}  {'switch':34} {'median ms':>9} {'quarter':>9} {'3rd q.':>9}")
    for size in [size for size in (1, 10, 100, 1000) if size <= count]:
        ours, peers = (iter(random.Random(size).choices(range(size), k=runs + 1)) for _ in range(2))

        def switch(turns: Iterator[int] = ours) -> None:
            server.put(versions.resolve(home.store, f"films@{next(turns) + 1}"))

        def switch_peft(turns: Iterator[int] = peers) -> None:
            peft.set_adapter(f"a{next(turns)}")

        for number in range(size):
            server.put(versions.resolve(home.store, f"films@{number + 1}"))
        calls: dict[str, Callable[[], object]] = {"limpet: look up, put in a slot": switch}
        if size <= PEFT_ADAPTERS:
            for number in range(loaded, size):
                loads.append(milliseconds(partial(peft.load_adapter, folder / "adapter", f"a{number}")))
            loaded = size
            calls["peft: set_adapter"] = switch_peft
        times = in_turn(runs, calls)
        for name, values in times.items():
            print(f"{size:>8}  {name:34} {spread(values)}")
        if size <= PEFT_ADAPTERS:
            print(f"{'':8}  peft's to ours: {ratio(times, *list(times)[::-1]):.1f}", flush=True)
    print(f"{loaded:>8}  peft: load_adapter of the last ten   {spread(loads[-10:])}")
    print(f"{10:>8}  peft: load_adapter of the first ten  {spread(loads[:10])}")


def copying(home: Home, count: int, runs: int) -> None:
    """Print how long the copy into a slot takes, and what a version costs that was not used before."""
    server = home.serve()
    records = [versions.resolve(home.store, f"films@{number + 1}") for number in range(min(count, 50))]
    first = [milliseconds(partial(server.adapter_cache.get, record)) for record in records]
    cache_slot = server.put(records[0])
    if cache_slot is None:
        raise SystemExit("the adapters are none that slots can hold")
    slot = cache_slot.slots.buffer[0]
    # once uncounted: a file's pages are read when they are first touched
    copies = [
        [milliseconds(partial(server.adapter_cache.copy_into, record, slot)) for record in records]
        for _ in range(runs)
    ]
    print(f"{'':8}  {'limpet: hash and read, first time':34} {spread(first)}")
    print(
        f"{'':8}  {'limpet: map and copy into a slot':34} {spread([value for turn in copies[1:] for value in turn])}"
    )


def mixed(home: Home, runs: int, peft: Any) -> None:
    """Print what a batch of 64 rows costs that belong to 64 adapters, and how far its rows are from one task's."""
    server = home.serve()
    cache_slots = [server.put(versions.resolve(home.store, f"films@{number + 1}")) for number in range(ROWS)]
    torch.manual_seed(0)
    ids = torch.randint(1000, 20000, (ROWS, TOKENS))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    names = [f"a{number}" for number in range(ROWS)]

    def ours(chosen: Sequence[CacheSlot | None]) -> Tensor:
        with torch.inference_mode():
            hidden: Tensor = server.slotted.run(chosen, **batch).last_hidden_state
        return hidden

    def peers(**options: Any) -> Tensor:
        with torch.inference_mode():
            hidden: Tensor = peft(**batch, **options).last_hidden_state
        return hidden

    peft.set_adapter("a0")
    times = in_turn(
        runs,
        {
            "base alone": lambda: ours([None] * ROWS),
            "limpet, one adapter": lambda: ours([cache_slots[0]] * ROWS),
            "limpet, 64 adapters": lambda: ours(cache_slots),
            "limpet, 64, 2 each": lambda: ours([cache_slot for cache_slot in cache_slots[::2] for _ in range(2)]),
            "peft, one adapter": peers,
            "peft, 64 adapters": lambda: peers(adapter_names=names),
        },
    )
    print(f"\n{ROWS} rows of {TOKENS} tokens         median ms   quarter    3rd q.")
    for name, values in times.items():
        print(f"{name:26} {spread(values)}")
    print(f"limpet, 64 adapters to one: {ratio(times, 'limpet, 64 adapters', 'limpet, one adapter'):.3f}")
    print(f"peft, 64 adapters to one: {ratio(times, 'peft, 64 adapters', 'peft, one adapter'):.3f}")
    print(f"peft's 64 to limpet's 64: {ratio(times, 'peft, 64 adapters', 'limpet, 64 adapters'):.3f}")
    together = ours(cache_slots)
    chosen = random.Random(0).sample(range(ROWS), 8)
    apart = max(float((together[row] - ours([cache_slots[row]] * ROWS)[row]).abs().max()) for row in chosen)
    print(f"largest difference to the row in a batch of one task: {apart:.1e} of {float(together.abs().max()):.1f}")


def requests(home: Home, runs: int) -> None:
    """Print what 64 requests cost from the reference to the answer."""
    server = home.serve()
    many = [(f"films@{number + 1}", TEXT) for number in range(ROWS)]
    times = in_turn(
        runs,
        {
            "serve: 64 texts, 64 versions": lambda: server.predict(many),
            "serve: 64 texts, 1 version": lambda: server.predict(many[:1] * ROWS),
            "predict: 64 texts, 1 version": lambda: home.predict("films@1", [TEXT] * ROWS),
        },
    )
    one = [milliseconds(lambda number=number: home.predict(f"films@{number + 1}", [TEXT])) for number in range(3)]
    print(f"\n{'requests':30} median ms   quarter    3rd q.")
    for name, values in times.items():
        print(f"{name:30} {spread(values)}")
    print(f"predict, version after version, 1 text each: {statistics.median(one):.1f} ms a version")
    expected = [home.predict(reference, [text])[0] for reference, text in many[:8]]
    pairs = zip(server.predict(many)[:8], expected, strict=True)
    apart = max(abs(a - b) for one, other in pairs for a, b in zip(one.answer.logits, other.logits, strict=True))
    print(f"largest difference of a logit to the text predicted alone: {apart:.1e}")


def resident() -> float:
    """MiB that this process has in memory now."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("this system does not tell the resident set")


def memory_of_limpet(folder: Path, count: int) -> None:
    """Print the resident set of a process that answers for more and more versions."""
    home = open_home(folder / "home")
    home.predict("films@1", [TEXT])
    server, before = home.serve(), resident()
    print(f"limpet, nothing in a slot: {before:.0f} MiB")
    asked, now = 0, before
    for size in [size for size in (1, 10, 100, 1000) if size <= count]:
        for number in range(asked, size):
            server.predict([(f"films@{number + 1}", TEXT)])
        asked, now = size, resident()
        print(
            f"limpet, {size:4} adapters used: {now:.0f} MiB, {(now - before) / size:.2f} MiB an adapter", flush=True
        )
    print(f"{'under' if now < 2048 else 'more than'} 2 GiB with {asked:,} adapters, the base and torch included")


def memory_of_peft(folder: Path, _: int) -> None:
    """Print the resident set of a process with more and more adapters of peft."""
    model = peft_model(open_home(folder / "home"), folder)
    before, loaded = resident(), 1
    print(f"peft, one adapter: {before:.0f} MiB")
    for size in (10, ROWS):
        for number in range(loaded, size):
            model.load_adapter(folder / "adapter", f"a{number}")
        loaded, now = size, resident()
        print(f"peft, {size:4} adapters: {now:.0f} MiB, {(now - before) / (size - 1):.2f} MiB an adapter", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100 adapters instead of 1,000")
    parser.add_argument("--runs", type=int, default=9, help="batches of each kind; switches are thirty times as many")
    parser.add_argument("--folder", type=Path, help="where to make the home; a temporary folder if not given")
    parser.add_argument("--memory-of", choices=("limpet", "peft"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    count = 100 if arguments.quick else 1000
    if arguments.memory_of:
        # in a process of its own
        {"limpet": memory_of_limpet, "peft": memory_of_peft}[arguments.memory_of](arguments.folder, count)
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        print(
            f"{torch.get_num_threads()} threads, load average {os.getloadavg()[0]:.1f}, {count:,} adapters",
            flush=True,
        )
        home = make_home(folder, count)
        (folder / "base").symlink_to(locate.check(home.store, home.base.show()))
        peft = peft_model(home, folder)
        switching(home, count, 30 * arguments.runs, peft=peft, folder=folder)
        copying(home, count, arguments.runs)
        mixed(home, arguments.runs, peft)
        requests(home, arguments.runs)
        print(flush=True)
        for system in ("limpet", "peft"):
            options = ["--memory-of", system, "--folder", str(folder), *(["--quick"] if arguments.quick else [])]
            subprocess.run([sys.executable, __file__, *options], check=True, stderr=subprocess.DEVNULL)
        print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
