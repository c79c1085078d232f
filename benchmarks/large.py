"""A language model of real size: peak memory and tokens a second, beside TRL's SFTTrainer with peft on the same work.

python benchmarks/large.py --trl-python PATH [--layers 22] [--steps 5] [--length 512] [--batch 1] [--quantize nf4]
                           [--no-checkpointing] [--only limpet|peer]

The model is made on the spot: a Llama with grouped heads and random bfloat16 weights, 1.1 B parameters by default,
and a tokenizer of made-up words. Each side is a process of its own. Limpet's does what a user does: `init`, `task
add`, `train` (LoRA on all linear layers), `evaluate`, `predict`; the peer's loads the model in bfloat16 and trains a
LoRA of the same rank by SFTTrainer, on the same texts in batches of the same size. Peaks are of resident memory, of
the whole process. The peer needs an interpreter that has trl:

    python -m venv PEER && PEER/bin/pip install -c constraints.txt trl torch transformers peft datasets
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
from pathlib import Path
from typing import Any

_WORDS = 32_000
_ANSWER = 16
RANK = 8


def make_model(folder: Path, layers: int) -> Path:
    """Save a Llama with random bfloat16 weights, and a tokenizer whose every word is a token."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    config = LlamaConfig(
        vocab_size=_WORDS,
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=layers,
        num_attention_heads=32,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        dtype="bfloat16",
    )
    torch.manual_seed(0)
    before, _ = torch.get_default_dtype(), torch.set_default_dtype(torch.bfloat16)
    LlamaForCausalLM(config).save_pretrained(folder)
    torch.set_default_dtype(before)
    words = ["<pad>", "<s>", "</s>", "<unk>", *(f"w{number}" for number in range(_WORDS - 4))]
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    named = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(folder)
    return folder


def make_rows(path: Path, rows: int, length: int) -> Path:
    """Write prompts and completions of `length` tokens together, the end token among them."""
    draw = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(rows):
            words = [f"w{draw.randrange(_WORDS - 4)}" for _ in range(length - 1)]
            row = {"prompt": " ".join(words[:-_ANSWER]), "completion": " ".join(words[-_ANSWER:])}
            file.write(json.dumps(row) + "\n")
    return path


def peak_bytes() -> int:
    """Return the largest resident memory of this process so far."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def limpet_side(model: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Do the work with Limpet, and return what it took."""
    from limpet.cli.terminal.quiet_libraries import silence
    from limpet.home import init
    from limpet.training.learning.settings import TrainingSettings

    silence()
    train = given.steps * given.batch
    data = make_rows(model.parent / "rows.jsonl", train + 8, given.length)
    seconds: dict[str, float] = {}

    def timed(name: str, work: Any) -> Any:
        started = time.perf_counter()
        result = work()
        seconds[name] = time.perf_counter() - started
        return result

    asked = {"quantize": given.quantize} if given.quantize else {}
    home = timed("init", lambda: init(model.parent / "home", base=str(model), mlflow="off", **asked))
    home.task.add(
        "words",
        f"jsonl:{data}",
        type="generation",
        prompt="{text}",
        train_size=train,
        eval_size=4,
        max_length=given.length,
        max_new_tokens=_ANSWER + 1,
        metric="neg-perplexity",
        near_duplicates="keep",
    )
    settings = TrainingSettings(
        "lora",
        {"r": RANK, "alpha": 2 * RANK},
        epochs=1,
        batch_size=given.batch,
        dtype="bfloat16",
        checkpointing=given.checkpointing,
    )
    started = time.perf_counter()
    reckoned = home.estimate("words", settings)
    seconds["estimate"] = time.perf_counter() - started
    timed("load", home.backbone)
    loaded = peak_bytes()
    version = timed("train", lambda: home.train("words", settings)).version
    trained = peak_bytes()
    backbone = home.backbone()
    timed("digest check", backbone.check_unchanged)
    timed("evaluate", lambda: home.evaluate(["words@1"]))
    timed("predict", lambda: home.predict("words@1", ["w1 w2 w3 w4"]))
    return {
        "loaded": loaded,
        "trained": trained,
        "peak": peak_bytes(),
        "seconds": seconds,
        "steps": version.cost["optimiser_steps"],
        "train_seconds": version.cost["train_seconds"],
        "tokens": train * given.length,
        "loss": version.metrics["history"][-1]["loss"],
        "estimate": {"peak": reckoned.peak_memory_bytes, "train_seconds": reckoned.phases["train"].seconds},
    }


def peer_side(model: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Do the work with TRL's SFTTrainer and peft, and return what it took."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    train = given.steps * given.batch
    lines = make_rows(model.parent / "peer.jsonl", train, given.length).read_text(encoding="utf-8").splitlines()
    started = time.perf_counter()
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
    load_seconds, loaded = time.perf_counter() - started, peak_bytes()
    config = SFTConfig(
        output_dir=str(model.parent / "peer"),
        max_steps=given.steps,
        per_device_train_batch_size=given.batch,
        max_length=given.length,
        completion_only_loss=True,
        gradient_checkpointing=given.checkpointing,
        bf16=True,
        use_cpu=not torch.cuda.is_available(),
        learning_rate=2e-3,
        report_to=[],
        save_strategy="no",
        logging_steps=given.steps,
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        base,
        args=config,
        train_dataset=Dataset.from_list([json.loads(line) for line in lines]),
        processing_class=AutoTokenizer.from_pretrained(model),
        peft_config=LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    started = time.perf_counter()
    result = trainer.train()
    return {
        "loaded": loaded,
        "trained": peak_bytes(),
        "peak": peak_bytes(),
        "seconds": {"load": load_seconds},
        "steps": given.steps,
        "train_seconds": time.perf_counter() - started,
        "tokens": train * given.length,
        "loss": result.training_loss,
    }


def run(side: str, python: str, model: Path) -> dict[str, Any]:
    """Run one side in a process of its own."""
    environment = {**os.environ, "LIMPET_LATENCY_SECONDS": "0", "TOKENIZERS_PARALLELISM": "false"}
    command = [python, str(Path(__file__).resolve()), *sys.argv[1:], "--side", side, "--model", str(model)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    outcome: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return outcome


def main() -> None:
    """Print what both sides took, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl-python")
    parser.add_argument("--layers", type=int, default=22)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--quantize", choices=["nf4", "int8"])
    parser.add_argument("--checkpointing", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--only", choices=["limpet", "peer"])
    parser.add_argument("--side", choices=["limpet", "peer"], help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "model"
            model.symlink_to(given.model, target_is_directory=True)
            outcome = (limpet_side if given.side == "limpet" else peer_side)(model, given)
        print(json.dumps(outcome))
        return
    sides = [side for side in ("limpet", "peer") if given.only in (None, side)]
    if "peer" in sides and not given.trl_python:
        parser.error("the peer needs --trl-python PATH, an interpreter that has trl; or say --only limpet")
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(Path(folder) / "model", given.layers)
        size = (model / "model.safetensors").stat().st_size
        print(f"file of {size / 1e9:.2f} GB; {given.steps} steps of {given.batch} x {given.length} tokens")
        outcomes = {}
        for side in sides:
            python = sys.executable if side == "limpet" else given.trl_python
            outcomes[side] = outcome = run(side, python, model)
            rate = outcome["tokens"] / outcome["train_seconds"]
            parts = ", ".join(f"{name} {value:.1f} s" for name, value in outcome["seconds"].items())
            peaks = [f"{outcome[name] / 1e9:.2f} GB" for name in ("loaded", "trained", "peak")]
            print(
                f"{side:8} loaded {peaks[0]}, peak of training {peaks[1]}, of all {peaks[2]}; {rate:.1f} tokens/s, "
                f"loss {outcome['loss']:.3f} ({parts})",
                flush=True,
            )
    if "limpet" in outcomes:
        ours = outcomes["limpet"]
        check, reckoned = ours["seconds"]["digest check"], ours["estimate"]
        print(f"digest check: {check:.2f} s, {check / ours['seconds']['train']:.1%} of training and its evaluation")
        print(
            f"estimate: peak {reckoned['peak'] / ours['peak']:.2f} of what it was, "
            f"seconds of the steps {reckoned['train_seconds'] / ours['train_seconds']:.2f}"
        )
    if len(outcomes) == 2:
        ours, peer = outcomes["limpet"], outcomes["peer"]
        print(f"peak: {ours['peak'] / peer['peak']:.2f} of the peer's")
        print(f"tokens/s: {peer['train_seconds'] / ours['train_seconds']:.2f} times the peer's")


if __name__ == "__main__":
    main()
