from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from limpet.errors import IntegrityError, LimpetError, NotFoundError, UsageError
from limpet.registry.formats.canonical import digest_file
from limpet.registry.records import bases as kept
from limpet.registry.store import Store
from limpet.registry.values import BaseRecord
from limpet.training.base.locate import _converted, check, describe, locate, resolve
from tests.tiny import WORDS, tiny_base


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMPET_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_base(tmp_path / "model", hidden=8)


@pytest.fixture
def record(store: Store, model: Path) -> BaseRecord:
    return kept.add(store, describe(resolve(str(model))))


def change_a_weight(folder: Path, by: float = 1e-3) -> str:
    """Add `by` to one number of one tensor, in a file that keeps its size."""
    path = folder / "model.safetensors"
    tensors, size = load_file(path), path.stat().st_size
    name = "encoder.layer.1.output.dense.weight"
    tensors[name][3, 5] += by
    save_file(tensors, path, metadata={"format": "pt"})
    assert path.stat().st_size == size
    return name


@pytest.mark.parametrize(
    ("kind", "family"),
    [("bert", "encoder"), ("llama", "decoder"), ("gpt2", "decoder"), ("t5", "encoder-decoder")],
)
def test_a_folder_is_described_by_its_configuration_and_fingerprint(tmp_path: Path, kind: str, family: str) -> None:
    folder = tiny_base(tmp_path / kind, kind, hidden=8)
    found = describe(resolve(str(folder)))
    assert (found.architecture, found.family, found.hidden_size) == (kind, family, 8)
    assert found.location == {"kind": "folder", "path": str(folder)}
    assert found.name == str(folder)
    assert found.parameters == sum(
        tensor.numel() for tensor in load_file(folder / "model.safetensors").values() if tensor.is_floating_point()
    )


def test_shards_are_the_same_base_as_one_file(tmp_path: Path) -> None:
    whole = describe(resolve(str(tiny_base(tmp_path / "whole", hidden=8))))
    shards = tiny_base(tmp_path / "shards", shard_size="4KB", hidden=8)
    assert len(list(shards.glob("*.safetensors"))) > 1
    assert describe(resolve(str(shards))).digest == whole.digest


def test_the_same_shapes_with_other_weights_are_another_base(tmp_path: Path) -> None:
    one, two = (describe(resolve(str(tiny_base(tmp_path / f"{seed}", seed=seed, hidden=8)))) for seed in (0, 1))
    assert one.config_digest == two.config_digest
    assert one.tokenizer_digest == two.tokenizer_digest
    assert one.digest != two.digest


def test_an_unchanged_base_passes_the_check(store: Store, record: BaseRecord, model: Path) -> None:
    assert check(store, record) == model
    assert check(store, record, reread=True) == model


def test_one_weight_changed_by_a_thousandth_is_refused_and_its_tensor_named(
    store: Store, record: BaseRecord, model: Path
) -> None:
    assert check(store, record) == model
    name = change_a_weight(model)
    with pytest.raises(IntegrityError) as caught:
        check(store, record)
    assert caught.value.exit_code == 5
    assert f"1 of {len(load_file(model / 'model.safetensors'))} tensors differ ({name})" in caught.value.message
    assert record.digest in caught.value.message
    assert "limpet base verify" in caught.value.hint


def test_a_changed_weight_is_refused_where_no_list_of_tensors_is_left(
    store: Store, record: BaseRecord, model: Path, tmp_path: Path
) -> None:
    change_a_weight(model)
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(IntegrityError, match="the weights differ"):
        check(store, record)


def test_a_weight_put_back_passes_again(store: Store, record: BaseRecord, model: Path) -> None:
    path = model / "model.safetensors"
    content = path.read_bytes()
    change_a_weight(model)
    with pytest.raises(IntegrityError):
        check(store, record)
    path.write_bytes(content)
    assert check(store, record) == model


def test_rereading_finds_what_a_stale_memory_hides(
    store: Store, record: BaseRecord, model: Path, tmp_path: Path
) -> None:
    from limpet.registry.base_fingerprint import fingerprint_folder

    memory = tmp_path / "cache" / "fingerprints"
    change_a_weight(model)
    fingerprint_folder(model, memory, reread=True)
    for file in (memory / "folders").glob("*.json"):
        content = json.loads(file.read_bytes())
        content["fingerprint"]["digest"] = record.digest
        file.write_text(json.dumps(content))
    with pytest.raises(IntegrityError):
        check(store, record, reread=True)


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("config.json", ('"gelu"', '"relu"'), "the configuration differs"),
        ("tokenizer.json", ('"clay"', '"v7"'), "the tokenizer differs"),
    ],
)
def test_a_changed_configuration_or_tokenizer_is_refused(
    store: Store, record: BaseRecord, model: Path, file: str, change: tuple[str, str], said: str
) -> None:
    path = model / file
    assert change[0] in path.read_text()
    path.write_text(path.read_text().replace(*change, 1))
    with pytest.raises(IntegrityError, match=said):
        check(store, record)


def test_a_truncated_base_is_refused(store: Store, record: BaseRecord, model: Path) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(IntegrityError, match="not a sound safetensors file"):
        check(store, record)


def test_a_base_whose_folder_is_gone_is_not_found(store: Store, record: BaseRecord, model: Path) -> None:
    shutil.rmtree(model)
    with pytest.raises(NotFoundError, match="is gone"):
        check(store, record)


# what is no base


def refused(kind: type[LimpetError], said: str, spec: object) -> LimpetError:
    with pytest.raises(LimpetError) as caught:
        describe(resolve(str(spec)))
    assert type(caught.value) is kind, caught.value
    assert said in caught.value.message
    assert caught.value.hint
    return caught.value


def test_weights_that_can_run_code_are_refused_unopened_with_a_way_out(model: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(b"not even a pickle")
    error = refused(UsageError, "pytorch_model.bin", model)
    assert "safetensors only" in error.message
    assert "save_pretrained" in error.hint


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("config.json", "no config.json"),
        ("model.safetensors", "no weights"),
        ("tokenizer.json", "no tokenizer"),
    ],
)
def test_a_folder_that_lacks_a_part_is_refused_by_the_part(model: Path, missing: str, said: str) -> None:
    (model / missing).unlink()
    refused(UsageError, said, model)


def test_an_architecture_that_is_no_text_model_is_refused(model: Path) -> None:
    path = model / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"model_type": "vit"}))
    refused(UsageError, "'vit'", model)
    path.write_text(json.dumps(config | {"model_type": "no-such-model"}))
    refused(UsageError, "configuration that transformers can't use", model)


def test_code_that_a_configuration_brings_along_is_never_run(model: Path, tmp_path: Path) -> None:
    path = model / "config.json"
    config = json.loads(path.read_text())
    proof = tmp_path / "it-ran"
    (model / "code.py").write_text(f"open({str(proof)!r}, 'w')\nclass C: pass\n")
    path.write_text(json.dumps(config | {"model_type": "mine", "auto_map": {"AutoConfig": "code.C"}}))
    refused(UsageError, "configuration", model)
    assert not proof.exists()


def test_specs_of_no_form_are_answered_with_the_forms_there_are(tmp_path: Path) -> None:
    refused(NotFoundError, "sample:NAME, a folder, a .gguf file, or a hub id", "minilm")
    refused(NotFoundError, "minilm, smollm2", "sample:bert")
    refused(NotFoundError, "There is no file", tmp_path / "absent.gguf")
    refused(UsageError, "is a file", Path(__file__))


# gguf


def write_gguf(path: Path, seed: int = 0) -> Path:
    """A tiny Llama in llama.cpp's format, unquantised."""
    import gguf
    import numpy as np

    generator = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(8)
    writer.add_feed_forward_length(16)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(4)
    # without it, transformers would add its default end token behind the last embedding
    words = [*WORDS, "w", "0", "w0", "<|endoftext|>"]
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(words)
    writer.add_token_types([1] * len(words))
    writer.add_token_merges(["w 0"])
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(3)
    shapes = {
        "token_embd": (len(words), 8),
        "output_norm": (8,),
        "output": (len(words), 8),
        "blk.0.attn_norm": (8,),
        "blk.0.ffn_norm": (8,),
        **{f"blk.0.attn_{name}": (8, 8) for name in ("q", "k", "v", "output")},
        "blk.0.ffn_gate": (16, 8),
        "blk.0.ffn_up": (16, 8),
        "blk.0.ffn_down": (8, 16),
    }
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", generator.standard_normal(shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_file_becomes_a_safetensors_folder_once(store: Store, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    resolved = resolve(str(path))
    assert resolved.location == {"kind": "gguf", "path": str(path), "digest": digest_file(path)}
    found = describe(resolved)
    assert (found.architecture, found.family, found.hidden_size) == ("llama", "decoder", 8)
    tensors = load_file(resolved.folder / "model.safetensors")
    assert {str(tensor.dtype) for tensor in tensors.values()} == {"torch.float32"}
    written = (resolved.folder / "model.safetensors").stat().st_mtime_ns
    assert resolve(str(path)).folder == resolved.folder
    assert (resolved.folder / "model.safetensors").stat().st_mtime_ns == written
    assert check(store, found) == resolved.folder
    # with the conversion in the cache, the file itself isn't needed
    path.unlink()
    assert check(store, found) == resolved.folder


def test_a_gguf_conversion_that_is_gone_is_made_again_from_the_same_file_only(store: Store, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    found = describe(resolve(str(path)))
    shutil.rmtree(tmp_path / "cache")
    assert check(store, found).is_dir()
    shutil.rmtree(tmp_path / "cache")
    write_gguf(path, seed=1)
    with pytest.raises(IntegrityError, match="is not the file that the base was made from"):
        check(store, found)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_gguf_conversion_that_was_damaged_is_made_again(store: Store, tmp_path: Path, name: str) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    found = describe(resolve(str(path)))
    for again in (
        lambda: check(store, found),
        lambda: check(store, found, reread=True),
        lambda: resolve(str(path)).folder,
    ):
        damaged = _converted(found.location) / name
        content = damaged.read_bytes()
        damaged.write_bytes(content[:-9] + b"123456789")
        assert again() == damaged.parent
        assert damaged.read_bytes() == content
    path.unlink()
    damaged.write_bytes(b"")
    with pytest.raises(IntegrityError, match="is gone"):
        check(store, found)


def test_a_file_that_only_ends_in_gguf_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "fake.gguf"
    path.write_bytes(b"GIF89a")
    refused(IntegrityError, "not a GGUF file", path)
    path.write_bytes(b"GGUF\x03\x00\x00\x00")
    refused(IntegrityError, "could not be read", path)
    assert not any((tmp_path / "cache" / "gguf").iterdir())


# the hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HUB = """
import sys
from limpet.errors import LimpetError
from limpet.training.base.locate import describe, locate, resolve
for spec in sys.argv[1:]:
    try:
        found = describe(resolve(spec))
        print(found.name, found.location, found.digest, locate(found).name)
    except LimpetError as error:
        print(type(error).__name__, error.message, error.hint)
"""


def cache_hub_model(home: Path, model: Path) -> None:
    """Lay a model out as the hub's client keeps what it fetched."""
    snapshot = home / "hub" / "models--org--tiny" / "snapshots" / COMMIT
    shutil.copytree(model, snapshot)
    refs = home / "hub" / "models--org--tiny" / "refs"
    refs.mkdir()
    (refs / "main").write_text(COMMIT)


def resolve_offline(home: Path, *specs: str) -> list[str]:
    """Resolve in a new process, because the hub's client looks at the environment once."""
    environment = os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", HUB, *specs], capture_output=True, text=True, check=True, env=environment
    )
    return done.stdout.splitlines()


def test_a_hub_model_is_recorded_by_its_commit(tmp_path: Path, model: Path) -> None:
    cache_hub_model(tmp_path / "hf", model)
    location = {"kind": "hub", "repo": "org/tiny", "revision": COMMIT}
    digest = describe(resolve(str(model))).digest
    specs = ("org/tiny", "org/tiny@main", f"org/tiny@{COMMIT}")
    expected = [f"{spec} {location} {digest} {COMMIT}" for spec in specs]
    assert resolve_offline(tmp_path / "hf", *specs) == expected


def test_a_hub_model_that_is_nowhere_is_said_to_be_unreachable(tmp_path: Path) -> None:
    (said,) = resolve_offline(tmp_path / "hf", "org/absent")
    assert said.startswith("UnavailableError org/absent is not in the hub's cache")
    assert "limpet base add FOLDER" in said


def test_a_folder_goes_before_a_hub_model_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_base(tmp_path / "org" / "tiny", hidden=8)
    monkeypatch.chdir(tmp_path)
    found = resolve("org/tiny")
    assert found.location == {"kind": "folder", "path": str(tmp_path / "org" / "tiny")}


# the sample


@pytest.mark.sample
def test_the_sample_base_is_fetched_again_when_its_folder_is_gone(
    store: Store, tmp_path: Path, sample_wheels: Path
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "wheels").symlink_to(sample_wheels)
    found = kept.add(store, describe(resolve("sample:minilm")))
    assert (found.architecture, found.family, found.hidden_size) == ("bert", "encoder", 384)
    assert found.parameters == 22_713_216
    folder = check(store, found)
    shutil.rmtree(folder)
    assert check(store, found) == folder
    assert locate(replace(found, name="sample")) == folder
