from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from limpet.errors import IntegrityError, NotFoundError
from limpet.registry.base_fingerprint import Fingerprint, fingerprint_folder, known_tensors, remembered_fingerprint
from limpet.registry.cache import keep, recall

TENSORS = {
    "embedding.weight": np.arange(12, dtype=np.float32).reshape(4, 3),
    "layer.bias": np.zeros(3, dtype=np.float32),
    "position_ids": np.arange(4, dtype=np.int64),
}


def write_model(
    folder: Path, tensors: dict[str, np.ndarray] = TENSORS, config: dict[str, object] | None = None
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config or {"model_type": "bert", "hidden_size": 3}))
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    return folder


def write_shards(folder: Path) -> Path:
    write_model(folder)
    (folder / "model.safetensors").unlink()
    files = {name: f"model-0000{number}-of-00003.safetensors" for number, name in enumerate(TENSORS, 1)}
    for name, file in files.items():
        save_file({name: TENSORS[name]}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


def settle(folder: Path) -> None:
    """Wait until the files are older than a tick of the file system's clock."""
    newest = max(path.stat().st_ctime for path in folder.iterdir())
    time.sleep(max(0.0, newest + 0.1 - time.time()))


def flip_bit(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))


def test_counts_parameters_in_floating_point_tensors_only(model: Path, cache: Path) -> None:
    found = fingerprint_folder(model, cache)
    assert found.parameters == 15
    assert found.size == sum(path.stat().st_size for path in model.iterdir())


def test_the_same_model_in_shards_has_the_same_weights_digest(model: Path, tmp_path: Path, cache: Path) -> None:
    sharded = fingerprint_folder(write_shards(tmp_path / "sharded"), cache)
    assert sharded.weights == fingerprint_folder(model, cache).weights


def test_metadata_of_the_weights_file_makes_no_difference(model: Path, tmp_path: Path, cache: Path) -> None:
    other = write_model(tmp_path / "other")
    save_file(TENSORS, other / "model.safetensors", metadata={"format": "pt", "note": "another day"})
    assert fingerprint_folder(other, cache).digest == fingerprint_folder(model, cache).digest


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("layer.bias", np.array([0, 0, 1e-3], dtype=np.float32)),
        ("layer.bias", np.zeros(3, dtype=np.int32)),
        ("layer.bias", np.zeros((3, 1), dtype=np.float32)),
        ("position_ids", np.arange(4, dtype=np.int64)[::-1].copy()),
        ("layer.weight", np.zeros(3, dtype=np.float32)),
    ],
    ids=["a weight", "a dtype with the same bytes", "a shape with the same bytes", "a buffer", "a tensor more"],
)
def test_any_change_of_a_tensor_changes_the_digest(
    model: Path, tmp_path: Path, cache: Path, name: str, value: np.ndarray
) -> None:
    other = write_model(tmp_path / "other", TENSORS | {name: value})
    before, after = fingerprint_folder(model, cache), fingerprint_folder(other, cache)
    assert before.weights != after.weights
    assert before.digest != after.digest
    assert (before.config, before.tokenizer) == (after.config, after.tokenizer)


def test_swapped_tensors_of_one_shape_change_the_digest(tmp_path: Path, cache: Path) -> None:
    one, two = np.zeros(3, dtype=np.float32), np.ones(3, dtype=np.float32)
    first = write_model(tmp_path / "first", {"a": one, "b": two})
    second = write_model(tmp_path / "second", {"a": two, "b": one})
    assert fingerprint_folder(first, cache).digest != fingerprint_folder(second, cache).digest


def test_configuration_counts_but_not_where_it_came_from(model: Path, tmp_path: Path, cache: Path) -> None:
    before = fingerprint_folder(model, cache)
    config = {"hidden_size": 3, "model_type": "bert", "_name_or_path": "elsewhere", "transformers_version": "9"}
    same = fingerprint_folder(write_model(tmp_path / "same", config=config), cache)
    assert same.config == before.config
    other = fingerprint_folder(write_model(tmp_path / "other", config=config | {"hidden_act": "relu"}), cache)
    assert other.config != before.config
    assert other.digest != before.digest
    assert other.weights == before.weights


def test_a_generation_config_that_appears_changes_the_digest(model: Path, cache: Path) -> None:
    before = fingerprint_folder(model, cache)
    (model / "generation_config.json").write_text('{"repetition_penalty": 1.3}')
    after = fingerprint_folder(model, cache)
    assert (before.config, before.digest) != (after.config, after.digest)
    assert before.weights == after.weights


def test_a_tokenizer_file_that_appears_changes_the_digest(model: Path, cache: Path) -> None:
    before = fingerprint_folder(model, cache)
    settle(model)
    assert fingerprint_folder(model, cache) == before
    (model / "added_tokens.json").write_text("{}")
    assert fingerprint_folder(model, cache).tokenizer != before.tokenizer


def test_files_that_are_no_part_of_the_model_make_no_difference(model: Path, cache: Path) -> None:
    before = fingerprint_folder(model, cache)
    (model / "README.md").write_text("read me")
    (model / "optimizer.pt").write_bytes(b"whatever")
    assert fingerprint_folder(model, cache) == before


def test_an_unchanged_folder_is_not_read_again(model: Path, cache: Path) -> None:
    settle(model)
    before = fingerprint_folder(model, cache)
    memory = next((cache / "folders").iterdir())
    content = json.loads(recall(memory) or b"")
    # a mark that only an answer from memory can carry
    content["fingerprint"]["parameters"] = 7
    keep(memory, json.dumps(content).encode())
    assert fingerprint_folder(model, cache).parameters == 7
    assert fingerprint_folder(model, cache, reread=True) == before


def test_what_is_remembered_and_was_damaged_is_read_again(model: Path, cache: Path) -> None:
    settle(model)
    before = fingerprint_folder(model, cache)
    for path in (*(cache / "folders").iterdir(), *(cache / "tensors").iterdir()):
        path.write_bytes(path.read_bytes().replace(b"sha256:", b"sha256:0"))
    assert remembered_fingerprint(model, cache) is None
    assert known_tensors(before.weights, cache) is None
    assert fingerprint_folder(model, cache) == before
    assert remembered_fingerprint(model, cache) == before


def test_a_flipped_bit_is_noticed_even_with_size_and_mtime_put_back(model: Path, cache: Path) -> None:
    settle(model)
    before = fingerprint_folder(model, cache)
    weights = model / "model.safetensors"
    stat = weights.stat()
    flip_bit(weights)
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert weights.stat().st_mtime_ns == stat.st_mtime_ns
    assert fingerprint_folder(model, cache).weights != before.weights


def test_a_change_right_after_reading_is_noticed(model: Path, cache: Path) -> None:
    # no waiting: this is about files younger than a tick of the clock
    before = fingerprint_folder(model, cache)
    flip_bit(model / "model.safetensors")
    assert fingerprint_folder(model, cache).weights != before.weights


def test_a_damaged_memory_is_not_believed(model: Path, cache: Path) -> None:
    settle(model)
    before = fingerprint_folder(model, cache)
    next((cache / "folders").iterdir()).write_text('{"identity": [')
    assert fingerprint_folder(model, cache) == before


def test_names_the_tensors_that_it_has_seen(model: Path, tmp_path: Path, cache: Path) -> None:
    other = write_model(tmp_path / "other", TENSORS | {"layer.bias": np.ones(3, dtype=np.float32)})
    before = known_tensors(fingerprint_folder(model, cache).weights, cache)
    after = known_tensors(fingerprint_folder(other, cache).weights, cache)
    assert before is not None
    assert after is not None
    assert {name for name in before if before[name] != after[name]} == {"layer.bias"}
    assert known_tensors("sha256:" + "0" * 64, cache) is None


def _drop(name: str) -> object:
    return lambda folder: (folder / name).unlink()


def _truncate(folder: Path) -> None:
    path = folder / "model-00002-of-00003.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def _point_outside(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["layer.bias"] = "../model/model.safetensors"
    index.write_text(json.dumps(content))


def _misplace(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["layer.bias"] = content["weight_map"]["position_ids"]
    index.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_drop("config.json"), "no config.json"),
        (_drop("model.safetensors.index.json"), "no weights"),
        (_drop("model-00002-of-00003.safetensors"), "model-00002-of-00003.safetensors is missing"),
        (_truncate, "not a sound safetensors file"),
        (_point_outside, "no file beside it"),
        (_misplace, "doesn't hold the tensors"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is not JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "not a JSON object"),
        (lambda folder: (folder / "model.safetensors.index.json").write_text("{}"), "no weight_map"),
    ],
)
def test_a_damaged_folder_is_refused_with_what_is_wrong(
    tmp_path: Path, cache: Path, damage: object, said: str
) -> None:
    folder = write_shards(tmp_path / "sharded")
    damage(folder)  # type: ignore[operator]
    with pytest.raises(IntegrityError, match=said) as caught:
        fingerprint_folder(folder, cache)
    assert caught.value.hint


def test_a_missing_folder_is_not_found(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(NotFoundError, match="no folder"):
        fingerprint_folder(tmp_path / "nowhere", cache)


def test_parts_are_digests_and_the_digest_covers_them(model: Path, cache: Path) -> None:
    found = fingerprint_folder(model, cache)
    assert isinstance(found, Fingerprint)
    parts = (found.digest, found.weights, found.config, found.tokenizer)
    assert len(set(parts)) == 4
    assert all(part.startswith("sha256:") and len(part) == 71 for part in parts)
