"""A head and its files: made for a task, written beside an adapter, and read again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from limpet.errors import IntegrityError, UsageError
from limpet.registry.formats.adapter_files import DEMONSTRATIONS_FILE, HEAD_FILES, LABELS_FILE, labels_document
from limpet.registry.formats.task_documents import has_tensors
from limpet.registry.values import BaseRecord, TaskRecord
from limpet.training.batching.examples import Example
from limpet.training.heads import Head, StoredHead
from limpet.training.heads.in_context import InContextHead
from limpet.training.task_types import task_type

__all__ = ["build_head", "grow_head", "load_head", "save_head", "write_labels"]


def build_head(task: TaskRecord, base: BaseRecord, train: Sequence[Example]) -> Head:
    """Make a new head for `task` on `base`, initialised from torch's global generator.

    Args:
        task: The task.
        base: The base that the head reads.
        train: The task's training examples.

    Raises:
        UsageError: No head exists for the task's type.
    """
    kind = task_type(task.definition.type).head
    return kind(kind.configure(task, base, train))


def grow_head(old: Head, labels_before: Sequence[str], new: Head, *, labels: Sequence[str]) -> Head:
    """Return a head for other labels that answers as before for those that it had: their rows are kept.

    Args:
        old: The head that there is.
        labels_before: Its labels, in the order of its rows.
        new: A new head for the task, which gives the rows of new labels.
        labels: The labels now.
    """
    # how features are read and dropped is the old head's, whatever a new one would do
    kept = {name: getattr(old.config, name) for name in ("pooling", "dropout", "bias")}
    head = type(old)(replace(new.config, **kept))
    with torch.no_grad():
        for row, label in enumerate(labels):
            source, at = (old, labels_before.index(label)) if label in labels_before else (new, row)
            head.linear.weight[row] = source.linear.weight[at]
            if head.linear.bias is not None:
                head.linear.bias[row] = 0.0 if source.linear.bias is None else source.linear.bias[at]
    return head.eval()


def save_head(head: StoredHead, folder: Path) -> None:
    """Write a head's files into `folder`."""
    head.save(folder)


def write_labels(folder: Path, labels: Sequence[str]) -> None:
    """Write the labels of a head's ids beside its files."""
    (folder / LABELS_FILE).write_bytes(labels_document(labels))


def load_head(files: Mapping[str, Path]) -> Head:
    """Build the head that `files` describe.

    Raises:
        IntegrityError: A file is missing, or its tensors do not fit its configuration.
    """
    if DEMONSTRATIONS_FILE in files:
        return InContextHead.of(files).eval()
    if HEAD_FILES[0] not in files:
        missing = [name for name in HEAD_FILES if name not in files]
        raise IntegrityError(f"The adapter has no {' and no '.join(missing)}.", "limpet verify")
    try:
        content = json.loads(files[HEAD_FILES[0]].read_text(encoding="utf-8"))
        kind = task_type(str(content["type"]))
        if has_tensors(kind.name) and HEAD_FILES[1] not in files:
            raise IntegrityError(f"The adapter has no {HEAD_FILES[1]}.", "limpet verify")
        tensors = load_file(files[HEAD_FILES[1]]) if HEAD_FILES[1] in files else {}
        head = kind.head.restore(content, tensors)
    except (KeyError, TypeError, ValueError, RuntimeError, UsageError) as error:
        raise IntegrityError(f"The adapter's head can't be read: {error}", "limpet verify") from error
    return head.eval()
