"""The peer of `training.py` and `evaluation.py`: the Trainer of transformers with peft, as it comes and at its best.

At its best it computes in bf16, where the processor multiplies that in hardware, and groups texts by length, with the
faster of two implementations of attention; as it comes it does neither. Both stand without logging, saving, reporting
and progress bars. The model is what users take: `AutoModelForSequenceClassification` with peft's `SEQ_CLS`, LoRA of
rank 8 on all linear layers but the pooler.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["ALPHA", "ATTENTIONS", "RANK", "Examples", "Run", "TrainingJob", "tokenised", "train_peer", "trainer_for"]

ATTENTIONS = ("sdpa", "eager")
"""What transformers takes by itself comes first."""
RANK, ALPHA = 8, 16
TARGETS = r".*encoder\.layer\..*\.(query|key|value|dense)"


@dataclass(frozen=True)
class Examples:
    """What the home gave away for the peer: texts with their targets, and how many labels there are."""

    labels: int
    train: list[tuple[str, int]]
    evaluation: list[tuple[str, int]]

    def write(self, path: Path) -> None:
        """Keep them in a file."""
        path.write_text(json.dumps(vars(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Examples:
        """Read them from a file."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class TrainingJob:
    """What one side has to learn; `folder` has the home, the base and the examples, `limit` is for rehearsals."""

    folder: Path
    task: str
    method: str
    learning_rate: float
    max_length: int
    epochs: int
    batch_size: int
    seed: int
    best: bool = False
    attention: str = ATTENTIONS[0]
    limit: int | None = None


@dataclass(frozen=True)
class Run:
    """What a run took: seconds of its steps, seconds from texts to trained tensors, and the peak of the process."""

    step_seconds: float
    whole_seconds: float
    accuracy: float
    peak_bytes: int


def tokenised(tokenizer: Any, examples: list[tuple[str, int]], max_length: int) -> list[dict[str, Any]]:
    """Turn examples into rows for the Trainer, cut and not padded."""
    encoded = tokenizer([text for text, _ in examples], truncation=True, max_length=max_length)
    columns = zip(encoded["input_ids"], encoded["attention_mask"], examples, strict=True)
    return [{"input_ids": ids, "attention_mask": mask, "labels": target} for ids, mask, (_, target) in columns]


def trainer_for(model: Any, tokenizer: Any, rows: Any, **options: Any) -> Any:
    """Make a Trainer that does nothing but train or predict."""
    import torch
    from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainingArguments

    arguments = TrainingArguments(
        # nothing is written there
        output_dir=tempfile.gettempdir(),
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        eval_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        # it refuses bf16 on a processor unless told that this is meant
        use_cpu=not torch.cuda.is_available(),
        **options,
    )
    collator = DataCollatorWithPadding(tokenizer)
    trainer = Trainer(model, arguments, train_dataset=rows, data_collator=collator, processing_class=tokenizer)
    trainer.remove_callback(PrinterCallback)
    return trainer


def train_peer(job: TrainingJob) -> Run:
    """Learn a task by the Trainer, and score it on the evaluation split."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from limpet.training.base.environment import bf16_is_fast
    from limpet.training.learning.runs import peak_memory

    base = job.folder / "base"
    tokenizer = AutoTokenizer.from_pretrained(base)
    examples = Examples.read(job.folder / f"{job.task}.json")
    # the mark is set before there is a model: what the last run left is no part of this one's peak
    mark = peak_memory.begin()
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=examples.labels, attn_implementation=job.attention
    )
    started = time.perf_counter()
    rows = tokenised(tokenizer, examples.train[: job.limit], job.max_length)
    if job.method == "lora":
        config = LoraConfig(task_type="SEQ_CLS", r=RANK, lora_alpha=ALPHA, target_modules=TARGETS)
        model = get_peft_model(model, config)
    options: dict[str, Any] = {}
    if job.best:
        options = {"bf16": bf16_is_fast(), "train_sampling_strategy": "group_by_length"}
    trainer = trainer_for(
        model,
        tokenizer,
        rows,
        per_device_train_batch_size=job.batch_size,
        num_train_epochs=job.epochs,
        learning_rate=job.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=0.1,
        weight_decay=0.01,
        seed=job.seed,
        **options,
    )
    clock = _epoch_clock()
    trainer.add_callback(clock)
    trainer.train()
    whole = time.perf_counter() - started
    reached = peak_memory.peak(mark)
    if job.limit is not None:
        return Run(clock.seconds, whole, 0.0, 0)
    test = tokenised(tokenizer, examples.evaluation, job.max_length)
    found = trainer.predict(test)
    accuracy = float((found.predictions.argmax(-1) == found.label_ids).mean())
    return Run(clock.seconds, whole, accuracy, reached.total if reached else 0)


def _epoch_clock() -> Any:
    """Return a callback that adds up the seconds between beginning and end of every epoch: its steps alone."""
    from transformers import TrainerCallback

    class EpochClock(TrainerCallback):
        seconds, _started = 0.0, 0.0

        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            self._started = time.perf_counter()

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            self.seconds += time.perf_counter() - self._started

    return EpochClock()
