"""Fine-tuning SmolLM2 beside TRL's SFTTrainer and beside transformers' Trainer with peft, in turn.

python benchmarks/smollm2.py --trl-python PATH [--rows 192] [--seeds 3] [--threads 2] [--sides limpet,trl,trainer]

SmolLM2-135M-Instruct learns to write headlines: texts of at most 160 tokens with their prompts, one epoch in batches
of 16, LoRA of rank 8 on all linear layers, the same token ids, learning rate and linear decay, loss on the
headline's words alone, bfloat16 where the processor multiplies that in hardware. TRL and the Trainer hold the base in
that dtype altogether and group texts by length. Every run is a process of its own; a seed's runs follow each other.
Tokens per second are those of the loop, of the others' `train()`, padding not counted; memory is the most that a
process ever had resident, loading included. The loss is that of 48 other headlines after training, by
word, in float32.

TRL needs an interpreter that has it: python -m venv --system-site-packages FOLDER, then
FOLDER/bin/pip install trl==1.16.0, then --trl-python FOLDER/bin/python. Without, the side is left out, and the output
says so.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RANK, ALPHA, RATE, BATCH_SIZE = 8, 16, 1e-3, 16
TASK = "headlines"
SIDES = ("limpet", "trl", "trainer")


def prepare(folder: Path, rows: int) -> None:
    """Make a home with the task, and write what the others learn: token ids, and where the headline begins."""
    from limpet.home import init
    from limpet.training.base import locate
    from limpet.training.base.precision import resolve_dtype
    from limpet.training.data.stored_splits import read_split
    from limpet.training.heads.generation import GenerationHead

    home = init(folder / "home", base="sample:smollm2", mlflow="off")
    task = home.task.add(
        TASK,
        "sample:bbc-news",
        type="generation",
        train_size=rows,
        eval_size=48,
        max_length=160,
        max_new_tokens=24,
    )
    backbone = home.backbone()
    (folder / "base").symlink_to(locate.check(home.store, home.base.show()))
    content: dict[str, Any] = {"dtype": resolve_dtype("auto")}
    for split in ("train", "evaluation"):
        examples = read_split(home.store, task, split)
        head = GenerationHead(GenerationHead.configure(task, backbone.record, examples))
        head.bind_base(backbone)
        head.attach_module(backbone.model)
        encoded = head.encode(backbone.tokenizer, examples, 160, learning=True)
        answers = encoded.fields["targets"].rows
        content[split] = [
            [list(ids), len(ids) - len(answer)] for ids, answer in zip(encoded.ids, answers, strict=True)
        ]
    (folder / "rows.json").write_text(json.dumps(content), encoding="utf-8")


def loss_of(hidden_to_logits: Any, rows: list[tuple[list[int], int]]) -> float:
    """Return the mean loss over all words of some headlines, one text at a time in float32."""
    import torch
    from torch.nn.functional import cross_entropy

    total, words = 0.0, 0
    with torch.inference_mode():
        for ids, prompt in rows:
            logits = hidden_to_logits(torch.tensor([ids]))[0, prompt - 1 : -1].float()
            total += float(cross_entropy(logits, torch.tensor(ids[prompt:]), reduction="sum"))
            words += len(ids) - prompt
    return total / words


def learn_limpet(folder: Path, seed: int) -> dict[str, float]:
    """Learn as `limpet train` does."""
    from limpet.home import open_home
    from limpet.training.learning.learn import learn
    from limpet.training.learning.settings import TrainingSettings
    from limpet.training.learning.training_run import TrainingRun
    from limpet.training.model.task_model import active

    home = open_home(folder / "home")
    settings = TrainingSettings(
        "lora",
        {"r": RANK, "alpha": ALPHA},
        epochs=1,
        learning_rate=RATE,
        batch_size=BATCH_SIZE,
        # at the first of its steps the other schedule learns nothing
        warmup=0.0,
        seed=seed,
    )
    backbone = home.backbone()
    staged = learn(TrainingRun(home.store, backbone, home.task.show(TASK), settings))
    cost: Any = staged.draft.cost
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = json.loads((folder / "rows.json").read_text(encoding="utf-8"))["evaluation"]
    with active(backbone, "lora", staged.files, head=staged.files) as model:

        def logits(ids: Any) -> Any:
            hidden = model.module(input_ids=ids).last_hidden_state
            return backbone.language_head()(hidden, backbone.model.get_input_embeddings().weight)

        loss = loss_of(logits, rows)
    return {"seconds": cost["train_seconds"], "loss": loss, "peak": peak}


def learn_peer(folder: Path, seed: int, *, with_trl: bool) -> dict[str, float]:
    """Learn by TRL's SFTTrainer, or by the Trainer with peft."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments

    content = json.loads((folder / "rows.json").read_text(encoding="utf-8"))
    dtype = content["dtype"]
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    model: Any = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=getattr(torch, dtype))
    lora = LoraConfig(task_type="CAUSAL_LM", r=RANK, lora_alpha=ALPHA, target_modules="all-linear")
    options: dict[str, Any] = {
        "output_dir": tempfile.gettempdir(),
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "use_cpu": not torch.cuda.is_available(),
        "bf16": dtype == "bfloat16",
        "per_device_train_batch_size": BATCH_SIZE,
        "num_train_epochs": 1,
        "learning_rate": RATE,
        "lr_scheduler_type": "linear",
        "weight_decay": 0.01,
        "train_sampling_strategy": "group_by_length",
        "gradient_checkpointing": False,
        "seed": seed,
    }
    pairs = content["train"]
    if with_trl:
        from trl import SFTConfig, SFTTrainer

        rows = [{"input_ids": ids, "completion_mask": [0] * n + [1] * (len(ids) - n)} for ids, n in pairs]
        arguments = SFTConfig(completion_only_loss=True, max_length=None, **options)
        data = Dataset.from_list(rows)
        trainer: Any = SFTTrainer(model, arguments, train_dataset=data, processing_class=tokenizer, peft_config=lora)
    else:
        rows = [
            {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [-100] * n + ids[n:]} for ids, n in pairs
        ]
        collator = DataCollatorForSeq2Seq(tokenizer)
        trainer = Trainer(
            get_peft_model(model, lora),
            TrainingArguments(**options),
            train_dataset=Dataset.from_list(rows),
            data_collator=collator,
        )
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    trained = trainer.model.eval().float()
    loss = loss_of(lambda ids: trained(input_ids=ids).logits, content["evaluation"])
    return {"seconds": seconds, "loss": loss, "peak": peak}


def run_side(side: str, folder: Path, seed: int, *, threads: int) -> None:
    """Learn in this process, and print what it took as JSON."""
    import torch

    torch.set_num_threads(threads)
    found = learn_limpet(folder, seed) if side == "limpet" else learn_peer(folder, seed, with_trl=side == "trl")
    print("\n" + json.dumps(found))


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl-python", help="an interpreter that has trl 1.16")
    parser.add_argument("--rows", type=int, default=192)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sides", default=",".join(SIDES))
    parser.add_argument("--run", nargs=3, metavar=("SIDE", "FOLDER", "SEED"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        side, folder, seed = given.run
        run_side(side, Path(folder), int(seed), threads=given.threads)
        return
    interpreters = dict.fromkeys(given.sides.split(","), sys.executable)
    if "trl" in interpreters and given.trl_python is None:
        print("trl is left out: --trl-python says which interpreter has it")
        del interpreters["trl"]
    elif "trl" in interpreters:
        interpreters["trl"] = given.trl_python
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, given.rows)
        content = json.loads((folder / "rows.json").read_text(encoding="utf-8"))
        tokens = sum(len(ids) for ids, _ in content["train"])
        print(f"{given.rows} texts of {tokens / given.rows:.0f} tokens, {given.threads} threads, {content['dtype']}")
        runs: dict[str, list[dict[str, float]]] = {side: [] for side in interpreters}
        for seed in range(given.seeds):
            for side, interpreter in interpreters.items():
                command = [interpreter, __file__, "--threads", str(given.threads), "--run", side, name, str(seed)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                runs[side].append(json.loads(done.stdout.splitlines()[-1]))
                print(f"seed {seed} {side:8} {runs[side][-1]}", file=sys.stderr, flush=True)
    print(f"{'':10}{'tokens/s':>10}{'peak MiB':>10}   loss on held-out headlines, seed by seed")
    for side, found in runs.items():
        speed = statistics.median(tokens / run["seconds"] for run in found)
        peak = statistics.median(run["peak"] for run in found)
        losses = " ".join(f"{run['loss']:.3f}" for run in found)
        print(f"{side:10}{speed:10.0f}{peak / 2**10:10.0f}   {losses}")
    for side in runs:
        if side != "limpet" and "limpet" in runs:
            pairs = list(zip(runs["limpet"], runs[side], strict=True))
            speed = statistics.median(peer["seconds"] / ours["seconds"] for ours, peer in pairs)
            peak = statistics.median(ours["peak"] / peer["peak"] for ours, peer in pairs)
            print(f"limpet to {side}: {speed:.2f} times the tokens/s, {peak:.2f} of the memory")


if __name__ == "__main__":
    main()
