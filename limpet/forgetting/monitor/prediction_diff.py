"""Where predictions are no longer what they were: the first example that differs, and the likely cause.

The cause is found by comparing what was recorded with the two evaluations: the data, the base, what was made of each
text (the rendered prompt, its token ids), the adapter, what was on the base in memory (head, weights, buffers), the
environment, the batch plan. The first that differs is named.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from limpet.forgetting.monitor.kept_predictions import ReadContent
from limpet.registry.formats.json_values import JsonValue
from limpet.registry.store import Store
from limpet.registry.values import EvaluationRecord

__all__ = ["Difference", "find_difference", "same_answers", "same_conditions"]

_LIBRARIES = ("python", "torch", "transformers", "peft", "limpet")
_LOADED = {
    "head": "the head on it was another one",
    "weights": "the adapter's weights in memory were not the same",
    "buffers": "a buffer of the model had drifted",
}
_BEFORE_CHANGE = 20
_SHOWN_OF_PROMPT = 60


@dataclass(frozen=True)
class Difference:
    """Two evaluations of a task that do not agree.

    `example` is the place of the first example whose prediction differs, in the order of the evaluation split; null
    where predictions are the same and only logits differ, or where the examples themselves are not the same.
    """

    task: str
    example: int | None
    before: JsonValue
    now: JsonValue
    target: JsonValue
    changed: int
    cause: str

    def sentence(self) -> str:
        """Return what differs, and why."""
        if self.example is None:
            return f"{self.task}: {self.cause}"
        return (
            f"{self.task}: example {self.example} was answered {self.before!r} and is answered {self.now!r} now "
            f"(right: {self.target!r}), {self.changed} in all; {self.cause}"
        )


def same_answers(before: EvaluationRecord, now: EvaluationRecord, read: ReadContent) -> bool:
    """Tell whether two full evaluations agree, example by example.

    Inside one environment and batch plan every bit of the logits must; across them, the predictions.
    """
    if same_conditions(before, now, read) and before.logits_digest != now.logits_digest:
        return False
    return all(read(before)[key] == read(now)[key] for key in ("predictions", "targets"))


def same_conditions(before: EvaluationRecord, now: EvaluationRecord, read: ReadContent) -> bool:
    """Tell whether two evaluations were computed by the same plan in the same environment: then bits are promised."""
    conditions = [(one.environment, one.plan_digest) for one in (before, now)]
    return conditions[0] == conditions[1] and not _arithmetic(read(before), read(now))


def find_difference(
    store: Store, before: EvaluationRecord, now: EvaluationRecord, *, read: ReadContent
) -> Difference | None:
    """Return the first difference between two full evaluations of a task; null where they agree.

    Raises:
        IntegrityError: Kept predictions are missing or corrupt.
    """
    if same_answers(before, now, read):
        return None
    old, new = read(before), read(now)
    cause = (
        _data(store, before, now, old=old, new=new)
        or _base(before, now)
        or _inputs(old, new)
        or _adapter(before, now, old, new=new)
        or _conditions(before, now, _arithmetic(old, new))
    )
    pairs = list(zip(old["predictions"], new["predictions"], strict=False))
    differing = [place for place, (a, b) in enumerate(pairs) if a != b]
    if len(old["targets"]) != len(new["targets"]) or not differing:
        return Difference(before.task, None, None, None, None, 0, cause)
    first = differing[0]
    answers = old["predictions"][first], new["predictions"][first], new["targets"][first]
    return Difference(before.task, first, *answers, len(differing), cause)


def _data(
    store: Store, before: EvaluationRecord, now: EvaluationRecord, *, old: Mapping[str, Any], new: Mapping[str, Any]
) -> str:
    if before.data_digest != now.data_digest:
        return f"the evaluation data are not the same: {_examples(store, before.data_digest, now.data_digest)}"
    if old["targets"] != new["targets"]:
        return f"the targets are not those of the same data: {_targets(old['targets'], new['targets'])}"
    return ""


def _examples(store: Store, before: str, now: str) -> str:
    """Say how two splits differ, where both are still kept."""
    if not (store.blobs.exists(before) and store.blobs.exists(now)):
        return "their digests differ"
    old, new = ([json.loads(line) for line in store.blobs.read(digest).splitlines()] for digest in (before, now))
    texts = [[row.pop("text") for row in rows] for rows in (old, new)]
    if len(old) != len(new):
        first = next((at for at, pair in enumerate(zip(*texts, strict=False)) if pair[0] != pair[1]), len(new))
        return f"{len(old)} examples became {len(new)}, from example {first} on"
    if texts[0] == texts[1]:
        return _targets(old, new)
    changed = [at for at, pair in enumerate(zip(*texts, strict=True)) if pair[0] != pair[1]]
    return f"the text of example {changed[0]} was changed, and {len(changed) - 1} others"


def _targets(old: Sequence[Any], new: Sequence[Any]) -> str:
    if len(old) != len(new):
        return f"{len(old)} examples became {len(new)}"
    changed = [at for at, (a, b) in enumerate(zip(old, new, strict=True)) if a != b]
    permuted = Counter(map(repr, old)) == Counter(map(repr, new)) and len(changed) > 1
    what = "labels were permuted among examples" if permuted else "labels were changed"
    return f"{what}, {len(changed)} in all, the first at example {changed[0]}"


def _base(before: EvaluationRecord, now: EvaluationRecord) -> str:
    if before.base_digest == now.base_digest:
        return ""
    return f"the base was {before.base_digest[:19]}... and is {now.base_digest[:19]}..."


def _inputs(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Say how what the model was given differs; evaluations of older homes kept nothing of it."""
    before, now = old.get("inputs"), new.get("inputs")
    if now and not before and now["date"]:
        return "the chat template prints the date, and the earlier evaluation was given that of its own day"
    if not before or not now or before["tokens"] == now["tokens"]:
        return ""
    differing = [at for at, (a, b) in enumerate(zip(before["each"], now["each"], strict=False)) if a != b]
    first = f", first that of example {differing[0]}" if differing else ""
    if before["prompt"] != now["prompt"]:
        return f"the rendered prompts are not the same{first}: {_first_change(before['prompt'], now['prompt'])}"
    if before["template"] != now["template"]:
        return f"the chat template is not the same: {len(differing)} prompts differ{first}"
    return f"the same texts became other token ids: {len(differing)} examples differ{first}"


def _first_change(old: str | None, new: str | None) -> str:
    """Show two prompts from shortly before the first place where they differ."""
    texts = old or "", new or ""
    pairs = zip(*texts, strict=False)
    changed = next((at for at, (a, b) in enumerate(pairs) if a != b), min(map(len, texts)))
    start = max(0, changed - _BEFORE_CHANGE)
    shown = [repr(text[start : start + _SHOWN_OF_PROMPT]) for text in texts]
    return f"{shown[0]} became {shown[1]}"


def _arithmetic(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return what products were computed by and no longer are; nothing where one evaluation did not record it."""
    before, now = (content.get("inputs", {}).get("arithmetic", {}) for content in (old, new))
    if not before or not now:
        return []
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    return [f"{name} was {before.get(name, 'not set')} and is {now.get(name, 'not set')}" for name in names]


def _adapter(
    before: EvaluationRecord, now: EvaluationRecord, old: Mapping[str, Any], *, new: Mapping[str, Any]
) -> str:
    if before.version != now.version:
        return f"the head is that of {now.version}, not of {before.version}"
    if before.state != now.state:
        return f"the weights on the base are those of {now.state}, not of {before.state}"
    loaded = [content.get("loaded", {}) for content in (old, new)]
    differing = [said for part, said in _LOADED.items() if loaded[0].get(part) != loaded[1].get(part)]
    return f"the same adapter was evaluated, but {differing[0]}" if all(loaded) and differing else ""


def _conditions(before: EvaluationRecord, now: EvaluationRecord, arithmetic: Sequence[str]) -> str:
    environments = asdict(before.environment), asdict(now.environment)
    changed = {key: (value, environments[1][key]) for key, value in environments[0].items()}
    said = [f"{key} was {old} and is {new}" for key, (old, new) in changed.items() if old != new]
    libraries = [change for change in said if change.split()[0] in _LIBRARIES]
    if libraries:
        return f"the library versions are not the same: {', '.join(said)}"
    if said:
        return f"the environment is not the same: {', '.join(said)}"
    if arithmetic:
        return f"products are not computed by the same arithmetic: {', '.join(arithmetic)}"
    if before.plan_digest != now.plan_digest:
        return "the batch plan is not the same"
    return "nothing that is recorded differs: limpet verify --probe looks further"
