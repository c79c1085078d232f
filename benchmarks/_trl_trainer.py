"""Trains an adapter with the real `trl`, under an interpreter that has it; imports nothing of this project.

Usage: python _trl_trainer.py BASE ROWS.jsonl FOLDER [--adapter FOLDER] [--steps N] [--learning-rate X]
The rows have `prompt` and `completion`; with --adapter, that one is trained on. The last line printed is a JSON
object with the first and the last loss.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from datasets import Dataset  # type: ignore[import-untyped]
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer  # type: ignore[import-not-found]


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser()
    parser.add_argument("base", type=Path)
    parser.add_argument("rows", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=1e-2)
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.rows.read_text(encoding="utf-8").splitlines()]
    settings = SFTConfig(
        output_dir=str(options.folder),
        max_steps=options.steps,
        learning_rate=options.learning_rate,
        per_device_train_batch_size=8,
        logging_steps=1,
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        seed=0,
    )
    model: Any = AutoModelForCausalLM.from_pretrained(options.base)
    lora = None
    if options.adapter:
        model = PeftModel.from_pretrained(model, options.adapter, is_trainable=True)
    else:
        lora = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=16, target_modules="all-linear")
    trainer = SFTTrainer(
        model=model,
        args=settings,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(options.base),
        peft_config=lora,
    )
    trainer.train()
    trainer.save_model(str(options.folder))
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    print(json.dumps({"first_loss": float(losses[0]), "last_loss": float(losses[-1])}))


if __name__ == "__main__":
    main()
