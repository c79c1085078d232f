"""What a learned adapter costs beside its training: bytes on disk, and time for an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from limpet.registry.formats.adapter_files import HEAD_FILES, LABELS_FILE
from limpet.registry.formats.json_values import JsonObject
from limpet.registry.values import VersionDraft
from limpet.training.base.backbone import Backbone
from limpet.training.base.checkpoint_size import full_checkpoint_size
from limpet.training.evaluation.latency import latency

__all__ = ["efficiency"]

# what a version has of its task, whatever its method
_OF_THE_TASK = (*HEAD_FILES, LABELS_FILE)


def efficiency(
    backbone: Backbone, draft: VersionDraft, files: Mapping[str, Path], *, texts: Sequence[str], seconds: float
) -> JsonObject:
    """Return the figures of an adapter that can be had without training it; see `limpet.registry.versions.costs`.

    Args:
        backbone: The base in memory; it is as before afterwards.
        draft: What the adapter is.
        files: Its files.
        texts: What it is timed with.
        seconds: For how long it is timed.

    Raises:
        IntegrityError: A file does not fit the base.
    """
    sizes = {name: path.stat().st_size for name, path in files.items()}
    own = sum(sizes.get(name, 0) for name in _OF_THE_TASK)
    length = int(draft.config["max_length"])
    return {
        "bytes": sum(sizes.values()),
        "full_checkpoint_bytes": full_checkpoint_size(backbone.model) + own,
        "latency": latency(backbone, draft.method, files, texts=texts, max_length=length, seconds=seconds),
    }
