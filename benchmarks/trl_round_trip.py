"""An adapter of the real `trl` comes in, answers as plain peft does, goes out again, and is trained on by `trl`.

Usage: python benchmarks/trl_round_trip.py --trl-python PATH [--base tiny|sample:smollm2] [--keep FOLDER]
It exits with 1 where one answer differs. `trl` needs an environment of its own, which takes torch, transformers and
peft from this one:

    python -m venv --system-site-packages trl-env       # made by the python that has them
    trl-env/bin/pip install trl
    python benchmarks/trl_round_trip.py --trl-python trl-env/bin/python

With --keep, the adapter that was trained on the tiny base is put into that folder: so was
`tests/training/adoption/fixtures/trl` made.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from limpet.home import Home, init
from tests.migrated import with_database
from tests.training.generation.test_generation import a_home, headlines

TRAINER = Path(__file__).parent / "_trl_trainer.py"
TEXTS = 24
MAX_NEW_TOKENS = 6


def main() -> None:
    """Go round once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl-python", required=True, help="an interpreter that can import trl")
    parser.add_argument("--base", default="tiny", choices=["tiny", "sample:smollm2"])
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        home, base = _home(folder, options.base)
        (folder / "tiny-llama").symlink_to(base)
        _write_rows(home, folder)
        steps, rate = ("200", "1e-2") if options.base == "tiny" else ("5", "1e-3")
        trainer = _Trainer(options.trl_python, folder, steps, rate)
        first = trainer.train("trained")
        wrong = _compare(home, base, folder / "trained")
        home.adapter.export("headlines@1", folder / "exported", for_engine="peft")
        second = trainer.train("trained-on", "--adapter", str(folder / "exported"))
        wrong += _compare(home, base, folder / "trained-on")
        if options.keep:
            _keep(folder / "trained", options.keep)
        scores = [home.adapter.show(f"headlines@{number}").metrics["score"] for number in (1, 2)]
        print(json.dumps({"trained": first, "trained_on": second, "scores": scores, "answers_that_differ": wrong}))
        # what was exported is where training goes on: it begins below where it began at first
        sys.exit(int(bool(wrong) or second["first_loss"] >= first["first_loss"]))


def _home(folder: Path, base: str) -> tuple[Home, Path]:
    if base == "tiny":
        return a_home(folder, "llama"), folder / "base"
    home = init(with_database(folder / "home"), base=base, mlflow="off")
    data = f"csv:{headlines(folder / 'news.csv')}"
    home.task.add("headlines", data, type="generation", max_new_tokens=MAX_NEW_TOKENS)
    from limpet.training.base import locate

    return home, locate.check(home.store, home.base.show())


def _write_rows(home: Home, folder: Path) -> None:
    """Write the task's training examples as `trl` takes them: what limpet asks with, and the answer."""
    from limpet.training.data.stored_splits import read_split
    from limpet.training.generation.prompts import PromptForm, render_prompt

    task, tokenizer = home.task.show("headlines"), home.backbone().tokenizer
    template = render_prompt(tokenizer, PromptForm.of(task.definition.options))
    examples = read_split(home.store, task, "train")
    lines = [
        json.dumps({"prompt": template.replace("{text}", str(one.text)), "completion": one.target})
        for one in examples
    ]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class _Trainer:
    """How the real `trl` trains here: its interpreter, and a folder with the base and the rows."""

    python: str
    folder: Path
    steps: str
    rate: str

    def train(self, name: str, *more: str) -> dict[str, float]:
        """Train an adapter into the folder `name`."""
        # a relative path, so that the files do not say where they were made
        command = [self.python, str(TRAINER.resolve()), "tiny-llama", "rows.jsonl", name, *more]
        command += ["--steps", self.steps, "--learning-rate", self.rate]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{self.python} could not train (--help says how to make it):\n{done.stderr[-2000:]}")
        losses: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return losses


def _compare(home: Home, base: Path, folder: Path) -> int:
    """Register an adapter, and count the answers that are not those of plain peft."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from limpet.training.data.stored_splits import read_split
    from limpet.training.generation.prompts import PromptForm, encode_prompts

    home.adapter.register("headlines", folder)
    task = home.task.show("headlines")
    texts = [str(one.text) for one in read_split(home.store, task, "evaluation")][:TEXTS]
    ours = [str(vars(answer)["answer"]) for answer in home.predict("headlines", texts, dtype="float32")]
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), folder).eval()
    wrong = 0
    for text, answer in zip(texts, ours, strict=True):
        (ids,) = encode_prompts(tokenizer, PromptForm.of(task.definition.options), [text], max_length=128)
        limits = {"max_new_tokens": MAX_NEW_TOKENS, "do_sample": False}
        with torch.no_grad():
            written = model.generate(input_ids=torch.tensor([ids]), **limits, pad_token_id=0)[0, len(ids) :]
        wrong += tokenizer.decode(written, skip_special_tokens=True).strip() != answer
    return wrong


def _keep(folder: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for name in ("adapter_config.json", "adapter_model.safetensors", "tokenizer_config.json"):
        shutil.copy(folder / name, target / name)


if __name__ == "__main__":
    main()
