"""Slots: what one adapter gives, and what each row of a mixed batch gets, is what peft's own layers give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from limpet.training.backbone import module_digest
from limpet.training.methods.lora import Lora
from limpet.training.serving.lora_file import layout_of, read_lora
from limpet.training.serving.slots import Layout, Place, Slots, SlottedBackbone, Target
from tests.tiny import tiny_base

# another order of additions in float32: about a hundred roundings of numbers near 1
CLOSE = 1e-5
LAYOUT = Layout((Target("x", 2, 3, 5),))


class Adapters:
    """A tiny base, and LoRA adapters with random tensors for it."""

    def __init__(self, kind: str, folder: Path) -> None:
        import transformers

        base = tiny_base(folder / "base", kind)
        self.model: Any = transformers.AutoModel.from_pretrained(base, attn_implementation="eager")
        self.model.eval().requires_grad_(False)
        self.folder = folder
        self.method = Lora()
        self.slotted = SlottedBackbone(self.model, 1 << 20)

    def make(self, seed: int, **settings: Any) -> dict[str, Path]:
        """Write an adapter's files."""
        folder = self.folder / str(seed)
        folder.mkdir()
        config = self.method.resolve(self.model, settings)
        module = self.method.attach(self.model, config)
        torch.manual_seed(seed)
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.data += 0.2 * torch.randn_like(parameter)
        self.method.save(module, config, "base", folder)
        self.method.detach(module)
        return {path.name: path for path in folder.iterdir()}

    def plain(self, files: dict[str, Path], batch: dict[str, Tensor]) -> Tensor:
        """What peft's layers give."""
        module = self.method.load(self.model, files)
        try:
            with torch.inference_mode():
                return self.hidden(module(**batch))
        finally:
            self.method.detach(module)

    def place(self, name: str, files: dict[str, Path]) -> Place:
        config = json.loads(files["adapter_config.json"].read_text(encoding="utf-8"))
        layout = layout_of(self.model, config)
        assert layout is not None
        lora = read_lora(files["adapter_model.safetensors"], config, layout)
        assert lora is not None
        slots = self.slotted.slots(lora.layout)
        return Place(slots, slots.place(name, lora.scale, lora.fill))

    def slotted_rows(self, places: list[Place | None], batch: dict[str, Tensor]) -> Tensor:
        with torch.inference_mode():
            return self.hidden(self.slotted.run(places, **batch))

    @staticmethod
    def hidden(output: Any) -> Tensor:
        found: Tensor = output.last_hidden_state
        return found


def batch_of(kind: str, rows: int, length: int = 7) -> dict[str, Tensor]:
    torch.manual_seed(rows)
    ids = torch.randint(5, 30, (rows, length))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return batch | ({"decoder_input_ids": ids} if kind in ("t5", "bart") else {})


@pytest.fixture(params=["bert", "gpt2", "opt", "t5", "albert"])
def adapters(request: pytest.FixtureRequest, tmp_path: Path) -> Adapters:
    return Adapters(request.param, tmp_path)


def test_one_adapter_gives_the_bits_of_peft_there_and_back(adapters: Adapters) -> None:
    digest, modules = module_digest(adapters.model), [id(module) for module in adapters.model.modules()]
    kind = adapters.model.config.model_type
    first, second, batch = adapters.make(1), adapters.make(2, r=4, rslora=True), batch_of(kind, 3)
    a, b = adapters.plain(first, batch), adapters.plain(second, batch)
    assert not torch.equal(a, b)
    for name, files, expected in (("first", first, a), ("second", second, b), ("first", first, a)):
        assert torch.equal(adapters.slotted_rows([adapters.place(name, files)] * 3, batch), expected)
    assert torch.equal(adapters.slotted_rows([None] * 3, batch), adapters.hidden(adapters.model(**batch)))
    assert module_digest(adapters.model) == digest
    assert [id(module) for module in adapters.model.modules()] == modules


def test_each_row_of_a_mixed_batch_gets_its_own_adapter(adapters: Adapters) -> None:
    kind = adapters.model.config.model_type
    targets = str(adapters.method.resolve(adapters.model, {})["target_modules"][0])
    files = [adapters.make(seed, r=4) for seed in range(4)] + [adapters.make(4, r=3, target_modules=targets)]
    places = [adapters.place(str(number), one) for number, one in enumerate(files)]
    for rows in (
        (0, 1, 2, 3),  # a slot a row, side by side
        (0, 0, 2, 2, 3, 3),  # groups of one size, with a slot between them
        (None, 0, 0, 1, 2, 3, 4),  # rows without an adapter, groups of other sizes, another layout
        (0, 0, 0, 0, 0, 1, 1, 1, 1, 4, 4),  # groups that are worth a product of their own
    ):
        batch = batch_of(kind, len(rows))
        got = adapters.slotted_rows([None if row is None else places[row] for row in rows], batch)
        for at, row in enumerate(rows):
            expected = adapters.hidden(adapters.model(**batch)) if row is None else adapters.plain(files[row], batch)
            assert (got[at] - expected[at]).abs().max() < CLOSE * expected.abs().max()


def test_slots_are_bounded_and_the_longest_unused_gives_way() -> None:
    slots = Slots(LAYOUT, 2, "cpu")
    filled: list[str] = []

    def place(key: str) -> int:
        def fill(slot: Tensor) -> None:
            filled.append(key)
            slot.fill_(ord(key))

        return slots.place(key, 1.0, fill)

    a, b = place("a"), place("b")
    assert place("a") == a and filled == ["a", "b"]
    assert place("c") == b and slots.held() == ("a", "c")
    assert (slots.buffer[a] == ord("a")).all() and (slots.buffer[b] == ord("c")).all()
    assert slots.buffer.shape == (2, LAYOUT.width)


def test_an_adapter_that_could_not_be_copied_is_not_in_place() -> None:
    slots = Slots(LAYOUT, 2, "cpu")
    slots.place("a", 1.0, lambda slot: None)

    def fail(slot: Tensor) -> None:
        raise OSError

    for _ in range(3):
        with pytest.raises(OSError):
            slots.place("b", 1.0, fail)
    filled: list[str] = []
    assert slots.place("b", 2.0, lambda slot: filled.append("b")) == 1
    assert filled == ["b"] and slots.scale_of[1] == 2.0
    assert slots.place("a", 1.0, fail) == 0


def test_tensors_in_a_slot_begin_where_a_cache_line_does() -> None:
    layout = Layout((Target("x", 3, 5, 7), Target("y", 1, 2, 3)))
    assert all(start % 16 == 0 for places in layout.starts for start in places)
    slots = Slots(layout, 3, "cpu")
    a, b = slots.stacks(1)
    assert a.shape == (3, 1, 2) and b.shape == (3, 3, 1)
    assert a[2].data_ptr() % 64 == b[1].data_ptr() % 64 == 0
    slots.buffer.zero_()
    b[1] = 1
    assert slots.buffer.sum() == 3 and slots.buffer[1].sum() == 3
