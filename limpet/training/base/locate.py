"""The frozen base: from a SPEC to a folder, and from a record back to the very same bytes.

SPEC is `sample:NAME`, a folder, a `.gguf` file, or a hub id `org/name[@revision]`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limpet.errors import IntegrityError, NotFoundError, UnavailableError, UsageError
from limpet.first_few import first_few
from limpet.registry.base_fingerprint import (
    TOKENIZER_FILES,
    WEIGHTS_FILE,
    WEIGHTS_INDEX,
    Fingerprint,
    fingerprint_folder,
    known_tensors,
    remembered_fingerprint,
)
from limpet.registry.cache import cache_folder, open_folder
from limpet.registry.formats.canonical import digest_file
from limpet.registry.store import Store
from limpet.registry.system.clock import utc_now
from limpet.registry.values import BaseRecord
from limpet.training.base.base_checks import check_base
from limpet.training.base.gguf import convert_gguf
from limpet.training.base.holding.recipes import digest_with, recipe_for, recipe_of, split_spec
from limpet.training.base.holding.stored import check_stored, stored_in
from limpet.training.base.hub_refusals import refusal
from limpet.training.base.pretrained import count_parameters, load_config, stored_dtype
from limpet.training.base.sample_wheels import SAMPLE_BASES, base_folder, sample_folder
from limpet.training.progress import SILENT, Progress

if TYPE_CHECKING:
    from transformers import PretrainedConfig

__all__ = [
    "ResolvedBase",
    "check",
    "describe",
    "download_size",
    "family",
    "find_here",
    "is_called",
    "is_here",
    "locate",
    "remembered",
    "resolve",
    "was_shorter",
]

_HUB = re.compile(r"(?P<repo>[\w][\w.-]*/[\w][\w.-]*)(?:@(?P<revision>[\w./-]+))?")
_HUB_FILES = [WEIGHTS_FILE, WEIGHTS_INDEX, "model-*.safetensors", "config.json", "generation_config.json"]
# tokenizer_config.json says how to tokenize, but only one of these says what the tokens are
_VOCABULARIES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
)
# kinds whose folders limpet made, in the cache
_CACHED = ("sample", "gguf")
_FORMS = "sample:NAME, a folder, a .gguf file, or a hub id org/name[@revision]"


@dataclass(frozen=True)
class ResolvedBase:
    """A SPEC made concrete: the name it is known by, the folder of its files, how to find them again."""

    name: str
    folder: Path
    location: dict[str, Any]


def resolve(spec: str) -> ResolvedBase:
    """Find the model that a SPEC names, fetching, unpacking or converting it where that is needed.

    Raises:
        UsageError: The SPEC has another form, or the folder is no model that limpet can load.
        NotFoundError: There is no such sample, folder, file or hub model.
        UnavailableError: It can't be fetched.
    """
    files, word = split_spec(spec)
    kind, _, rest = files.partition(":")
    path = Path(files).expanduser().absolute()
    if kind == "sample" and rest:
        location: dict[str, Any] = {"kind": "sample", "name": rest}
        folder = base_folder(rest, checked=True)
    elif files.endswith(".gguf"):
        if not path.is_file():
            raise NotFoundError(f"There is no file {path}.", f"ls {path.parent}")
        location = {"kind": "gguf", "path": str(path), "digest": digest_file(path)}
        folder = _converted(location, checked=True)
    elif path.is_dir():
        location = {"kind": "folder", "path": str(path)}
        folder = path
    elif match := _HUB.fullmatch(files):
        folder = _hub_folder(match["repo"], match["revision"])
        location = {"kind": "hub", "repo": match["repo"], "revision": folder.name}
    elif path.is_file():
        raise UsageError(f"{spec} is a file, and a base is {_FORMS}.", f"limpet base add {path.parent}")
    else:
        raise NotFoundError(f"{spec!r} is no base: a base is {_FORMS}.", "limpet base add sample:minilm")
    _check_folder(folder)
    if word is not None:
        _check_not_stored(folder, spec, word)
    recipe = recipe_for(word, stored_dtype(folder))
    return ResolvedBase(spec, folder, location | ({} if recipe is None else {"recipe": recipe}))


def _check_not_stored(folder: Path, spec: str, word: str) -> None:
    """Refuse to hold weights in another way that are stored quantised."""
    if kind := stored_in(load_config(folder)):
        raise UsageError(
            f"The weights of {spec} are stored quantised ({kind}) and held as they are, not in {word}.",
            "leave out --dtype and --quantize, or name the model that it was made from",
        )


def _check_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise UsageError(
            f"{folder} has no config.json, so it is not a transformers model folder.",
            "name the folder that save_pretrained wrote",
        )
    if not any((folder / name).is_file() for name in (WEIGHTS_FILE, WEIGHTS_INDEX)):
        pickled = sorted(path.name for path in folder.iterdir() if path.suffix in {".bin", ".pt", ".pth", ".ckpt"})
        if pickled:
            raise UsageError(
                f"{folder} has its weights in {pickled[0]}, a format that can run code when opened; limpet "
                "opens safetensors only.",
                "if you trust it: load it by the class that its config.json names under architectures, then "
                "model.save_pretrained(NEW) writes safetensors",
            )
        raise UsageError(f"{folder} has no weights: no {WEIGHTS_FILE}.", "name the folder that save_pretrained wrote")
    if not any((folder / name).is_file() for name in _VOCABULARIES):
        raise UsageError(
            f"{folder} has no tokenizer: none of {', '.join(_VOCABULARIES)}.",
            "AutoTokenizer.from_pretrained(MODEL).save_pretrained(FOLDER)",
        )


def _converted(location: dict[str, Any], checked: bool = False) -> Path:
    def convert(temporary: Path) -> None:
        path = Path(location["path"])
        if not path.is_file() or digest_file(path) != location["digest"]:
            raise IntegrityError(
                f"{path} is gone or is not the file that the base was made from.",
                "restore the file at this path",
            )
        convert_gguf(path, temporary)

    return open_folder(_converted_folder(location), convert, checked)


def _converted_folder(location: dict[str, Any]) -> Path:
    return cache_folder() / "gguf" / str(location["digest"]).removeprefix("sha256:")


def _hub_folder(repo: str, revision: str | None) -> Path:
    """The snapshot of a hub model; its last part is the commit."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = [*_HUB_FILES, *TOKENIZER_FILES]
    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=patterns))
    except HfHubHTTPError as error:
        unreachable = UnavailableError(f"The hub can't give {repo}: {error}", "run the command again later")
        raise (refusal(error, repo, revision=revision) or unreachable) from error
    except (LocalEntryNotFoundError, ConnectionError, TimeoutError) as error:
        raise UnavailableError(
            f"{repo} is not in the hub's cache here, and the hub can't be reached.",
            f"go online once, or copy the model and name its folder: limpet base add FOLDER ({repo})",
        ) from error


def locate(record: BaseRecord, checked: bool = False) -> Path:
    """Return the folder with a base's files; whether they are still the same is what `check` tells.

    Args:
        record: The base.
        checked: Read every byte of a folder in the cache, and make it again if it was damaged.

    Raises:
        NotFoundError: The folder is gone.
        UnavailableError: It would have to be fetched again, and can't be.
    """
    location = record.location
    if location["kind"] == "sample":
        return base_folder(location["name"], checked)
    if location["kind"] == "gguf":
        return _converted(location, checked)
    if location["kind"] == "hub":
        return _hub_folder(location["repo"], location["revision"])
    folder = Path(location["path"])
    if not folder.is_dir():
        raise NotFoundError(f"The folder {folder} of the base {record.name!r} is gone.", "put it back at this path")
    return folder


def was_shorter(record: BaseRecord) -> bool:
    """Tell whether a base's files are float32 of weights that were stored in fewer bits, as those of a GGUF file."""
    location = record.location
    if location["kind"] == "sample":
        return SAMPLE_BASES[location["name"]].is_gguf
    return bool(location["kind"] == "gguf")


def find_here(record: BaseRecord) -> Path | None:
    """Return the folder with a base's files if it is on this machine; nothing is fetched or converted."""
    location = record.location
    if location["kind"] == "hub":
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            return Path(snapshot_download(location["repo"], revision=location["revision"], local_files_only=True))
        except LocalEntryNotFoundError:
            return None
    if location["kind"] == "sample":
        folder = sample_folder(location["name"])
    elif location["kind"] == "gguf":
        folder = _converted_folder(location)
    else:
        folder = Path(location["path"])
    return folder if folder.is_dir() else None


def is_here(spec: str) -> bool:
    """Tell whether a base is described without fetching or converting anything: a folder, or an unpacked sample."""
    spec = split_spec(spec)[0]
    kind, _, rest = spec.partition(":")
    if kind == "sample" and rest:
        return sample_folder(rest).is_dir()
    return not spec.endswith(".gguf") and Path(spec).expanduser().is_dir()


def download_size(spec: str) -> int | None:
    """Return how many bytes are fetched for a base that is not here; null where only its server knows."""
    kind, _, rest = split_spec(spec)[0].partition(":")
    sample = SAMPLE_BASES.get(rest) if kind == "sample" else None
    if sample is None or (cache_folder() / "wheels" / sample.wheel.file).is_file():
        return None if sample is None else 0
    return sample.wheel.size


def remembered(record: BaseRecord) -> str | None:
    """Return the digest that a base's files had when they were last read; null where they must be read again."""
    folder = find_here(record)
    fingerprint = None if folder is None else remembered_fingerprint(folder, _fingerprints())
    return None if fingerprint is None else digest_with(fingerprint.digest, recipe_of(record))


def describe(resolved: ResolvedBase, progress: Progress = SILENT) -> BaseRecord:
    """Return the record of a base: its fingerprint and the facts of its configuration.

    Args:
        resolved: The base.
        progress: Receives a note of which optional parts its files do not have.

    Raises:
        UsageError: transformers doesn't know this architecture as a text model, or the base can't be one for a
            reason that `check_base` finds.
        UnavailableError: Its weights are stored quantised, and what reads them is not installed.
        IntegrityError: A file of the base is corrupt.
    """
    fingerprint = fingerprint_folder(resolved.folder, _fingerprints())
    try:
        config = load_config(resolved.folder)
        hidden_size = int(config.hidden_size)
    except (ValueError, KeyError, AttributeError, OSError) as error:
        raise UsageError(
            f"{resolved.name} has a configuration that transformers can't use for a text model: {error}",
            "choose another base, such as sample:minilm",
        ) from error
    kind = family(config, resolved.name)
    stored = stored_in(config)
    check_stored(stored, resolved.name)
    if absent := check_base(resolved.folder, resolved.name, kind, fingerprint=fingerprint, stored=stored):
        named = ", ".join(absent)
        progress.note(f"the files of {resolved.name} have no {named}: what reads these is refused, all else works")
    return BaseRecord(
        name=resolved.name,
        digest=digest_with(fingerprint.digest, resolved.location.get("recipe")),
        weights_digest=fingerprint.weights,
        config_digest=fingerprint.config,
        tokenizer_digest=fingerprint.tokenizer,
        architecture=config.model_type,
        family=kind,
        hidden_size=hidden_size,
        # packed weights are fewer numbers than they stand for
        parameters=fingerprint.parameters if stored is None else count_parameters(config, kind),
        size=fingerprint.size,
        location=resolved.location | ({} if stored is None else {"stored": stored}),
        created_at=utc_now(),
    )


def family(config: PretrainedConfig, name: str) -> str:
    """Return `encoder`, `decoder` or `encoder-decoder`.

    Args:
        config: A model's configuration.
        name: What the model is called, for the message.

    Raises:
        UsageError: It is no language model that transformers knows.
    """
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    if config.is_encoder_decoder:
        return "encoder-decoder"
    # encoders stand in the causal table too (a BERT can be asked to look left only), so they are asked first
    if config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        return "encoder"
    if config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return "decoder"
    raise UsageError(
        f"{name} is a {config.model_type!r} model, which is no language model that transformers knows.",
        "choose another base, such as sample:minilm",
    )


def is_called(record: BaseRecord, name: str) -> bool:
    """Tell whether a name that somebody else's program wrote down may mean a base.

    Programs write down a path, a hub id or a shorter name, so the last part decides.
    """
    location = record.location
    names = [split_spec(record.name)[0], *(str(location[key]) for key in ("repo", "path", "name") if key in location)]
    folder = find_here(record)
    return _last(name) in {_last(one) for one in [*names, *([] if folder is None else [str(folder)])]}


def _last(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].rpartition(":")[2].partition("@")[0].removesuffix(".gguf").casefold()


def check(store: Store, record: BaseRecord, reread: bool = False) -> Path:
    """Return the folder of a base after making sure that it is the base that was recorded.

    A copy in the cache that was damaged is made again from what it was made from.

    Args:
        store: The home.
        record: The base.
        reread: Read every byte again, also where the files' sizes, times and inodes are unchanged.

    Raises:
        IntegrityError: The files are another model than the one recorded, or corrupt.
        NotFoundError: The folder is gone.
    """
    folder, recipe = locate(record), recipe_of(record)
    try:
        fingerprint = fingerprint_folder(folder, _fingerprints(), reread)
        damaged = digest_with(fingerprint.digest, recipe) != record.digest
    except IntegrityError:
        if record.location["kind"] not in _CACHED:
            raise
        damaged = True
    if damaged and record.location["kind"] in _CACHED:
        folder = locate(record, checked=True)
        fingerprint = fingerprint_folder(folder, _fingerprints())
    found = digest_with(fingerprint.digest, recipe)
    if found != record.digest:
        raise IntegrityError(
            f"The base {record.name!r} is not what it was: {_difference(record, fingerprint)} in {folder}. "
            f"Recorded {record.digest}, found {found}.",
            f"restore the folder from where the model came, then: limpet base verify --home {store.path}",
        )
    return folder


def _difference(record: BaseRecord, found: Fingerprint) -> str:
    parts = []
    if found.weights != record.weights_digest:
        parts.append(_tensor_difference(record.weights_digest, found.weights))
    if found.config != record.config_digest:
        parts.append("the configuration differs")
    if found.tokenizer != record.tokenizer_digest:
        parts.append("the tokenizer differs")
    return " and ".join(parts)


def _tensor_difference(before: str, now: str) -> str:
    old, new = known_tensors(before, _fingerprints()), known_tensors(now, _fingerprints())
    if old is None or new is None:
        return "the weights differ"
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return f"{len(names)} of {len(old)} tensors differ ({first_few(names)})"


def _fingerprints() -> Path:
    return cache_folder() / "fingerprints"
