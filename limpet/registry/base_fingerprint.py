"""A base's fingerprint: one digest over its weights, its configuration and its tokenizer.

The weights count as a list of tensors (name, dtype, shape, SHA-256 of the bytes), so that a model has the
same fingerprint however it is cut into files. Bytes are streamed; no tensor is ever whole in memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from limpet.errors import IntegrityError, NotFoundError
from limpet.registry.cache import keep, recall
from limpet.registry.formats.canonical import CHUNK, canonical_json, digest_file, digest_json
from limpet.registry.formats.json_values import JsonObject, JsonValue
from limpet.registry.formats.safetensors_header import read_header
from limpet.registry.formats.tensors import are_finite

__all__ = [
    "TOKENIZER_FILES",
    "WEIGHTS_FILE",
    "WEIGHTS_INDEX",
    "Fingerprint",
    "fingerprint_folder",
    "fingerprinted_files",
    "known_tensors",
    "remembered_fingerprint",
]

WEIGHTS_FILE = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = (
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "source.spm",
    "special_tokens_map.json",
    "spiece.model",
    "spm.model",
    "target.spm",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
"""Files whose bytes make up the tokenizer, where they exist."""

_CONFIG_FILES = ("config.json", "generation_config.json")
# where a model came from and what wrote the file; neither changes a logit
_PROVENANCE = ("_name_or_path", "transformers_version")
# a file changed within the same tick of the file system's clock could keep its time stamps
_CLOCK_TICK_NS = 50_000_000

Identity = list[list[Any]]


@dataclass(frozen=True)
class Fingerprint:
    """What a model folder is known by.

    `digest` covers the digests of `weights`, `config` and `tokenizer`; `parameters` counts the numbers in all
    floating-point tensors, `size` is the bytes of all files read. `not_finite` are the names of tensors with a NaN or
    an infinite value.
    """

    digest: str
    weights: str
    config: str
    tokenizer: str
    parameters: int
    size: int
    not_finite: tuple[str, ...] = ()


def fingerprint_folder(folder: Path, cache_dir: Path, reread: bool = False) -> Fingerprint:
    """Return the fingerprint of a transformers model folder.

    A folder is not read again while its files have the paths, sizes, time stamps and inodes of last time.

    Args:
        folder: Has `config.json`, safetensors weights (one file or shards) and a tokenizer.
        cache_dir: Where fingerprints and lists of tensors are remembered.
        reread: Read every byte, whatever is remembered.

    Raises:
        NotFoundError: There is no such folder.
        IntegrityError: A file is missing, corrupt, or changed while it was read.
    """
    folder = folder.absolute()
    if not folder.is_dir():
        raise NotFoundError(f"There is no folder {folder}.", "limpet base show")
    memory = _memory(folder, cache_dir)
    identity, started = _identity(folder), time.time_ns()
    if not reread and (remembered := _recall(memory, identity)):
        return remembered
    fingerprint, tensors = _read(folder)
    if _identity(folder) != identity:
        raise IntegrityError(
            f"A file in {folder} changed while it was read.", "run this again when nothing writes to it"
        )
    keep(_tensors_file(cache_dir, fingerprint.weights), canonical_json(tensors))
    if all(changed < started - _CLOCK_TICK_NS for _, _, _, changed, _ in identity):
        keep(memory, canonical_json({"identity": identity, "fingerprint": asdict(fingerprint)}))
    return fingerprint


def remembered_fingerprint(folder: Path, cache_dir: Path) -> Fingerprint | None:
    """Return the fingerprint of a folder if its files are those of last time; null where they must be read.

    Raises:
        IntegrityError: A file is missing.
    """
    folder = folder.absolute()
    return _recall(_memory(folder, cache_dir), _identity(folder))


def known_tensors(weights_digest: str, cache_dir: Path) -> dict[str, str] | None:
    """Return a digest of each tensor (dtype, shape, bytes) of weights read before; null if unknown."""
    content = recall(_tensors_file(cache_dir, weights_digest))
    return None if content is None else {name: digest_json(rest) for name, *rest in json.loads(content)}


def _read(folder: Path) -> tuple[Fingerprint, list[list[Any]]]:
    read = list(_tensors(folder))
    tensors = sorted(tensor for tensor, _ in read)
    weights = digest_json(tensors)
    config = digest_json({name: _config(folder / name) for name in _existing(folder, _CONFIG_FILES)})
    tokenizer = digest_json({name: digest_file(folder / name) for name in _existing(folder, TOKENIZER_FILES)})
    fingerprint = Fingerprint(
        digest=digest_json({"weights": weights, "config": config, "tokenizer": tokenizer}),
        weights=weights,
        config=config,
        tokenizer=tokenizer,
        parameters=sum(prod(shape) for _, dtype, shape, _ in tensors if dtype.startswith(("F", "BF"))),
        size=sum(path.stat().st_size for path in fingerprinted_files(folder)),
        not_finite=tuple(sorted(name for (name, *_), finite in read if not finite)),
    )
    return fingerprint, tensors


def _config(path: Path) -> JsonObject:
    content = _parse(path)
    if not isinstance(content, dict):
        raise IntegrityError(f"{path} is not a JSON object.", "restore the file from where the model came")
    return {key: value for key, value in content.items() if key not in _PROVENANCE}


def _parse(path: Path) -> JsonValue:
    try:
        content: JsonValue = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{path} is not JSON: {error}.", "restore the file from where the model came") from error
    return content


# tensors


def _tensors(folder: Path) -> Iterator[tuple[list[Any], bool]]:
    """Every tensor of the weights as name, dtype, shape, SHA-256 of its bytes; and whether it is finite."""
    shards = _shards(folder)
    if shards is None:
        yield from _file_tensors(folder / WEIGHTS_FILE)
        return
    for file, names in sorted(shards.items()):
        found = list(_file_tensors(folder / file))
        if {name for (name, *_), _ in found} != names:
            raise IntegrityError(
                f"{folder / file} doesn't hold the tensors that {WEIGHTS_INDEX} places in it.",
                "restore the folder from where the model came",
            )
        yield from found


def _shards(folder: Path) -> dict[str, set[str]] | None:
    """The shards, each with its tensors' names; null where there is one file for all, which goes first."""
    if (folder / WEIGHTS_FILE).exists():
        return None
    index = folder / WEIGHTS_INDEX
    if not index.exists():
        raise IntegrityError(
            f"{folder} has no weights: neither {WEIGHTS_FILE} nor {WEIGHTS_INDEX}.",
            "restore the folder from where the model came",
        )
    content = _parse(index)
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise IntegrityError(f"{index} has no weight_map.", "restore the file from where the model came")
    shards: dict[str, set[str]] = {}
    for name, file in weight_map.items():
        if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
            raise IntegrityError(
                f"{index} places {name!r} in {file!r}, which is no file beside it.", "limpet base add"
            )
        shards.setdefault(file, set()).add(name)
    return shards


def _file_tensors(path: Path) -> Iterator[tuple[list[Any], bool]]:
    if not path.is_file():
        raise IntegrityError(f"The weights file {path} is missing.", "restore the file from where the model came")
    header = read_header(path)
    with path.open("rb") as file:
        for name, (dtype, shape, start, end) in sorted(header.items(), key=lambda item: item[1][2:]):
            file.seek(start)
            digest, finite = _digest_next(file, end - start, dtype)
            yield [name, dtype, list(shape), digest], finite


def _digest_next(file: BinaryIO, length: int, dtype: str) -> tuple[str, bool]:
    """The SHA-256 of the next bytes, and whether the numbers in them are finite: they are read once for both."""
    sha, finite = hashlib.sha256(), True
    while length:
        chunk = file.read(min(length, CHUNK))
        if not chunk:
            raise IntegrityError(f"{file.name} ends too early.", "restore the file from where the model came")
        sha.update(chunk)
        finite = finite and are_finite(chunk, dtype)
        length -= len(chunk)
    return "sha256:" + sha.hexdigest(), finite


# what is remembered


def _existing(folder: Path, names: tuple[str, ...]) -> list[str]:
    return [name for name in names if (folder / name).is_file()]


def fingerprinted_files(folder: Path) -> list[Path]:
    """Return every file of a model folder that its fingerprint depends on.

    Raises:
        IntegrityError: The configuration or the weights are missing.
    """
    if not (folder / "config.json").is_file():
        raise IntegrityError(f"{folder} has no config.json.", "restore the folder from where the model came")
    shards = _shards(folder)
    weights = [WEIGHTS_FILE] if shards is None else [WEIGHTS_INDEX, *sorted(shards)]
    names = [*weights, *_existing(folder, _CONFIG_FILES), *_existing(folder, TOKENIZER_FILES)]
    return [folder / name for name in names]


def _identity(folder: Path) -> Identity:
    identity = []
    for path in fingerprinted_files(folder):
        try:
            stat = path.stat()
        except FileNotFoundError as error:
            raise IntegrityError(
                f"The weights file {path} is missing.", "restore it from where the model came"
            ) from error
        changed = max(stat.st_mtime_ns, stat.st_ctime_ns)
        identity.append([path.name, stat.st_size, stat.st_mtime_ns, changed, stat.st_ino])
    return identity


def _memory(folder: Path, cache_dir: Path) -> Path:
    return cache_dir / "folders" / hashlib.sha256(os.fsencode(folder)).hexdigest()


def _tensors_file(cache_dir: Path, weights_digest: str) -> Path:
    return cache_dir / "tensors" / weights_digest.removeprefix("sha256:")


def _recall(memory: Path, identity: Identity) -> Fingerprint | None:
    content = recall(memory)
    remembered = None if content is None else json.loads(content)
    if remembered is None or remembered["identity"] != identity:
        return None
    facts = remembered["fingerprint"]
    return Fingerprint(**{**facts, "not_finite": tuple(facts["not_finite"])})
