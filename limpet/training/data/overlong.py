"""What is longer than a task's limits: counted, so that nothing is cut without a word.

Counts are in tokens, so they need the tokenizer of the home's base. Where its files are not on this machine yet,
nothing is counted when a task is added; training counts in any case.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from limpet.errors import NotFoundError
from limpet.registry.records import bases
from limpet.registry.store import Store
from limpet.registry.values import TaskRecord
from limpet.training.batching.examples import Text
from limpet.training.data.stored_splits import read_split
from limpet.training.task_types import TaskType, task_type

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "FITTING",
    "LONGEST_ANSWER",
    "LONGEST_TEXT",
    "SHORT_TEXT",
    "TEXTS_PER_CALL",
    "Lengths",
    "Overlong",
    "cut",
    "describe",
    "find_tokenizer",
    "lengths_of",
    "positions_of",
    "room_for",
    "usual_length",
]

Overlong = Literal["cut", "drop", "refuse"]
LONGEST_ANSWER = 512
"""No task gets a longer answer than this by default, in tokens; what is longer is counted as cut."""
LONGEST_TEXT = 1024
"""No task reads longer texts than this by default, in tokens."""
SHORT_TEXT = 128
"""How many tokens of a text are read at least by default, also where no tokenizer is here to count them."""
FITTING = 0.99
"""The share of the texts that are read whole by default."""
_POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx")
_NO_LIMIT = 1 << 30
_MULTIPLE = 8
TEXTS_PER_CALL = 1000
"""So many are tokenised at once: token ids take far more memory than texts."""
_counted: WeakKeyDictionary[Any, dict[str, dict[str, Lengths]]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Lengths:
    """How many tokens each text has, and each target where targets are written; in the order of the examples."""

    texts: npt.NDArray[np.int32]
    targets: npt.NDArray[np.int32]

    def of(self, places: Sequence[int]) -> Lengths:
        """Return the lengths of some examples."""
        return Lengths(self.texts[places], self.targets[places] if len(self.targets) else self.targets)

    def over(self, max_length: int, max_new_tokens: int | None) -> dict[str, int]:
        """Return how many texts and targets are longer than the limits, and by how many tokens at most."""
        texts = self.texts[self.texts > max_length] - max_length
        limit = max_new_tokens or 0
        targets = self.targets[self.targets > limit] - limit if limit else self.targets[:0]
        return {
            "texts": len(texts),
            "texts_by": int(texts.max(initial=0)),
            "targets": len(targets),
            "targets_by": int(targets.max(initial=0)),
        }


def find_tokenizer(store: Store) -> PreTrainedTokenizerBase | None:
    """Return the tokenizer of the home's base if its files are on this machine; else null, and nothing is fetched."""
    from limpet.training.base.pretrained import load_tokenizer

    try:
        folder = _base_folder(store)
        return load_tokenizer(folder) if folder is not None and _is_tokenizer(folder) else None
    except Exception:
        # which base it is, and whether its files are sound, is for training to say
        return None


def _base_folder(store: Store) -> Path | None:
    from limpet.training.base.locate import find_here
    from limpet.training.base.sample_wheels import sample_folder

    try:
        return find_here(bases.get(store))
    except NotFoundError:
        # not needed by anything yet, but another home may have unpacked it
        kind, _, name = (store.settings.base or "").partition(":")
        return sample_folder(name) if kind == "sample" and name else None


def _is_tokenizer(folder: Path) -> bool:
    return any(folder.glob("tokenizer*")) or (folder / "vocab.txt").is_file()


def lengths_of(
    tokenizer: PreTrainedTokenizerBase,
    kind: TaskType[Any],
    pairs: Iterable[tuple[Text, Any]],
    *,
    options: Mapping[str, Any],
) -> Lengths:
    """Count the tokens of texts, as a task of this type asks the base for them, and of targets that are written."""
    texts: list[npt.NDArray[np.int32]] = []
    targets: list[npt.NDArray[np.int32]] = []
    for some in _batched(pairs):
        lengths = kind.text_lengths(tokenizer, [text for text, _ in some], options)
        texts.append(np.array(lengths, np.int32))
        targets.append(np.array(kind.target_lengths(tokenizer, [target for _, target in some]), np.int32))
    none = np.zeros(0, np.int32)
    return Lengths(np.concatenate([none, *texts]), np.concatenate([none, *targets]))


def _batched(pairs: Iterable[tuple[Text, Any]]) -> Iterator[list[tuple[Text, Any]]]:
    left = iter(pairs)
    while some := list(islice(left, TEXTS_PER_CALL)):
        yield some


def room_for(longest: int, least: int) -> int:
    """Return how long answers may be so that the longest target fits: a multiple of 8, `least` or more."""
    return min(LONGEST_ANSWER, max(least, -(-longest // _MULTIPLE) * _MULTIPLE))


def positions_of(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return how many tokens the base of a tokenizer has positions for; null where that is not known."""
    limits = [tokenizer.model_max_length]
    try:
        config = json.loads((Path(tokenizer.name_or_path) / "config.json").read_bytes())
        limits += [config[name] for name in _POSITIONS if isinstance(config.get(name), int)]
    except (OSError, ValueError):
        pass
    # a tokenizer without a limit says so by a number that no text has
    return min((limit for limit in limits if 0 < limit < _NO_LIMIT), default=None)


def usual_length(lengths: npt.NDArray[np.int32], most: int | None) -> int:
    """Return how long texts may be so that 99 % of them fit: a multiple of 8, no more than there is room for.

    It is 128 or more where there is room: batches are no wider than their longest text, so that a limit which is not
    reached costs nothing, and texts that come later may be longer than those that were learned.

    Args:
        lengths: How many tokens texts have.
        most: For how many tokens the base has room; null where that is not known.
    """
    fitting = int(np.quantile(lengths, FITTING, method="higher"))
    length = min(max(-(-fitting // _MULTIPLE) * _MULTIPLE, SHORT_TEXT), LONGEST_TEXT)
    return length if most is None else max(1, min(length, most // _MULTIPLE * _MULTIPLE))


def cut(
    store: Store, tokenizer: PreTrainedTokenizerBase, task: TaskRecord, *, max_length: int
) -> dict[str, dict[str, int]]:
    """Count what of a task's splits is longer than its limits; see `Lengths.over`.

    Args:
        store: The home.
        tokenizer: The base's.
        task: The task.
        max_length: The longest text in tokens: the task's own, or what training takes instead.
    """
    limit = task.definition.options.get("max_new_tokens")
    return {name: one.over(max_length, limit) for name, one in _lengths(store, tokenizer, task).items()}


def describe(found: Mapping[str, Mapping[str, int]], sizes: Mapping[str, int], max_length: int) -> list[str]:
    """Say in sentences what is cut, and what to type so that it is not; nothing where all fits.

    Args:
        found: What `cut` counted.
        sizes: How many examples each split has.
        max_length: The longest text in tokens.
    """
    sentences = []
    if texts := {name: one for name, one in found.items() if one["texts"]}:
        longest = max_length + max(one["texts_by"] for one in texts.values())
        sentences.append(
            f"{_shares(texts, sizes, 'texts')} are cut at {max_length} tokens; the longest has {longest}: "
            "--max-length sets the limit"
        )
    if targets := {name: one for name, one in found.items() if one["targets"]}:
        by = max(one["targets_by"] for one in targets.values())
        sentences.append(
            f"{_shares(targets, sizes, 'targets')} are longer than the longest answer, by {by} tokens at most, "
            "and can never be written whole: --max-new-tokens of limpet task add sets the limit"
        )
    return sentences


def _shares(found: Mapping[str, Mapping[str, int]], sizes: Mapping[str, int], what: str) -> str:
    shares = (f"{found[name][what]} of {sizes[name]} {name} {what}" for name in found)
    return ", ".join(shares)


def _lengths(store: Store, tokenizer: PreTrainedTokenizerBase, task: TaskRecord) -> dict[str, Lengths]:
    """Count once in a process: a stream learns a task under many settings."""
    lengths_of_task = _counted.setdefault(tokenizer, {})
    if task.data_digest not in lengths_of_task:
        kind, options = task_type(task.definition.type), task.definition.options
        lengths_of_task[task.data_digest] = {
            split.name: lengths_of(
                tokenizer,
                kind,
                ((one.text, one.target) for one in read_split(store, task, split.name)),
                options=options,
            )
            for split in task.splits
        }
    return lengths_of_task[task.data_digest]
