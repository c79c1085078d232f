"""Slots: what one adapter gives, and what each row of a mixed batch gets, is what peft's own layers give."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Collection, Mapping, Set
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from limpet.training.base.tensor_digests import module_digest
from limpet.training.methods.lora import Lora
from limpet.training.serving.lora_file import layout_of, read_lora
from limpet.training.serving.lora_slots import CacheSlot, Layout, SlotBuffer, Slots, SlottedBackbone, Target
from tests.tiny import tiny_base

# another order of additions in float32: about a hundred roundings of numbers near 1
CLOSE = 1e-5
LAYOUT = Layout((Target("x", 2, 3, 5),))
# of one, two and five times the least width
LAYOUTS = [Layout((Target("x", rank, 4, 4),)) for rank in (2, 6, 18)]


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
        self.method.save(module, "base", folder)
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

    def put(self, name: str, files: dict[str, Path]) -> CacheSlot:
        config = json.loads(files["adapter_config.json"].read_text(encoding="utf-8"))
        layout = layout_of(self.model, config)
        assert layout is not None
        lora = read_lora(files["adapter_model.safetensors"], config, layout)
        assert lora is not None
        cache_slot = self.slotted.put(name, lora.layout, lora.scale, copy_into=lora.copy_into)
        assert cache_slot is not None
        return cache_slot

    def slotted_rows(self, cache_slots: list[CacheSlot | None], batch: dict[str, Tensor]) -> Tensor:
        with torch.inference_mode():
            return self.hidden(self.slotted.run(cache_slots, **batch))

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
        assert torch.equal(adapters.slotted_rows([adapters.put(name, files)] * 3, batch), expected)
    assert torch.equal(adapters.slotted_rows([None] * 3, batch), adapters.hidden(adapters.model(**batch)))
    assert module_digest(adapters.model) == digest
    assert [id(module) for module in adapters.model.modules()] == modules


def test_each_row_of_a_mixed_batch_gets_its_own_adapter(adapters: Adapters) -> None:
    kind = adapters.model.config.model_type
    targets = str(adapters.method.resolve(adapters.model, {})["target_modules"][0])
    files = [adapters.make(seed, r=4) for seed in range(4)] + [adapters.make(4, r=3, target_modules=targets)]
    cache_slots = [adapters.put(str(number), one) for number, one in enumerate(files)]
    for rows in (
        (0, 1, 2, 3),  # a slot a row, side by side
        (0, 0, 2, 2, 3, 3),  # groups of one size, with a slot between them
        (None, 0, 0, 1, 2, 3, 4),  # rows without an adapter, groups of other sizes, another layout
        (0, 0, 0, 0, 0, 1, 1, 1, 1, 4, 4),  # groups that are worth a product of their own
    ):
        batch = batch_of(kind, len(rows))
        got = adapters.slotted_rows([None if row is None else cache_slots[row] for row in rows], batch)
        for at, row in enumerate(rows):
            expected = adapters.hidden(adapters.model(**batch)) if row is None else adapters.plain(files[row], batch)
            assert (got[at] - expected[at]).abs().max() < CLOSE * expected.abs().max()


def room(count: int, layout: Layout = LAYOUT) -> SlotBuffer:
    """A buffer for so many adapters of a layout."""
    return SlotBuffer(4 * layout.width * count, "cpu")


def put(buffer: SlotBuffer, key: str, layout: Layout = LAYOUT, staying: Set[str] = frozenset()) -> CacheSlot | None:
    """CacheSlot an adapter all of whose numbers, and whose factor, are the code of its name."""

    def copy_into(slot: Tensor) -> None:
        slot.fill_(ord(key))

    return buffer.put(key, layout, ord(key), copy_into=copy_into, staying=staying)


def holds(buffer: SlotBuffer, layouts: Mapping[str, Layout]) -> dict[str, CacheSlot]:
    """Insist that every adapter in a slot has its own numbers and factor, and return where they are."""

    def fail(slot: Tensor) -> None:
        raise AssertionError("it was in a slot")

    cache_slots = {}
    for key in buffer.held():
        cache_slot = buffer.put(key, layouts[key], 0.0, copy_into=fail)
        assert cache_slot is not None
        assert (cache_slot.slots.slot(cache_slot.index) == ord(key)).all()
        assert cache_slot.slots.scales[cache_slot.index] == cache_slot.slots.scale_of[cache_slot.index] == ord(key)
        cache_slots[key] = cache_slot
    return cache_slots


def test_slots_are_bounded_and_the_longest_unused_gives_way() -> None:
    buffer = room(2)
    a, b = put(buffer, "a"), put(buffer, "b")
    assert put(buffer, "a") == a
    assert put(buffer, "c") == b and buffer.held() == ("a", "c")
    assert holds(buffer, dict.fromkeys("ac", LAYOUT)).keys() == {"a", "c"}
    assert buffer.memory == 2 * 4 * LAYOUT.width


def test_an_adapter_that_could_not_be_copied_is_not_in_place() -> None:
    buffer = room(2)
    put(buffer, "a")

    def fail(slot: Tensor) -> None:
        slot.zero_()
        raise OSError

    for _ in range(3):
        with pytest.raises(OSError):
            buffer.put("b", LAYOUT, 1.0, copy_into=fail)
        assert buffer.held() == ("a",)
    cache_slot = put(buffer, "b")
    assert cache_slot is not None and cache_slot.index == 1
    assert holds(buffer, dict.fromkeys("ab", LAYOUT)).keys() == {"a", "b"}


@settings(max_examples=50)
@given(
    st.integers(0, 12),
    st.lists(st.tuples(st.integers(0, 9), st.sets(st.integers(0, 9), max_size=3)), max_size=30),
)
def test_adapters_of_several_layouts_share_one_limit_and_never_a_number(
    narrow: int, steps: list[tuple[int, set[int]]]
) -> None:
    buffer = room(narrow, LAYOUTS[0])
    layouts = {chr(97 + number): LAYOUTS[number % 3] for number in range(10)}
    for number, others in steps:
        key, staying = chr(97 + number), {chr(97 + other) for other in others}
        before = buffer.held()
        cache_slot = put(buffer, key, layouts[key], staying)
        if cache_slot is None:
            assert staying and buffer.held() == before
        else:
            assert buffer.held()[-1] == key
            assert staying.intersection(before) <= set(buffer.held())
        assert holds(buffer, layouts).keys() == set(buffer.held())
        assert sum(4 * layouts[held].width for held in buffer.held()) <= buffer.memory
        # one adapter has room in any case
        assert buffer.memory <= max(4 * LAYOUTS[0].width * narrow, max(4 * one.width for one in LAYOUTS))


class Interrupt:
    """Raises KeyboardInterrupt before one of the instructions of some functions that are run in a `with` block."""

    def __init__(self, step: int, functions: Collection[str]) -> None:
        self.left = step
        self._functions = functions

    def __enter__(self) -> None:
        sys.settrace(self._enter)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_name not in self._functions:
            return None
        frame.f_trace_opcodes = True
        return self._step

    def _step(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "opcode":
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self._step


def interrupted(step: int, functions: Collection[str], act: Callable[[], object]) -> bool:
    """Act with an interrupt at a step of some functions; false where it ended before."""
    try:
        with Interrupt(step, functions):
            act()
    except KeyboardInterrupt:
        return True
    return False


def test_an_interrupt_at_any_instruction_lets_no_adapter_answer_for_another() -> None:
    layouts = dict(zip("abcd", [LAYOUTS[0], LAYOUTS[0], LAYOUTS[1], LAYOUTS[0]], strict=True))
    for step in itertools.count(1):
        buffer = room(3, LAYOUTS[0])
        for key in "ab":
            put(buffer, key, layouts[key])
        ended = not interrupted(step, vars(SlotBuffer), partial(put, buffer, "c", layouts["c"]))
        assert ("c" in holds(buffer, layouts)) or not ended
        for key in "dacb":
            put(buffer, key, layouts[key])
            assert key in holds(buffer, layouts)
        if ended:
            break
    assert step > 100


def test_an_interrupt_while_layers_begin_to_listen_leaves_none_deaf_and_none_doubled(tmp_path: Path) -> None:
    adapters = Adapters("bert", tmp_path)
    files, batch = adapters.make(1, target_modules="query"), batch_of("bert", 2)
    expected = adapters.plain(files, batch)
    functions = ("_attach_slots", "register_forward_hook")
    for step in itertools.count(1, 3):
        adapters.slotted = SlottedBackbone(adapters.model, 1 << 20)
        ended = not interrupted(step, functions, partial(adapters.put, "a", files))
        assert torch.equal(adapters.slotted_rows([adapters.put("a", files)] * 2, batch), expected)
        if ended:
            break
    assert step > 100


def test_tensors_in_a_slot_begin_where_a_cache_line_does() -> None:
    layout = Layout((Target("x", 3, 5, 7), Target("y", 1, 2, 3)))
    assert all(start % 16 == 0 for starts in layout.starts for start in starts)
    buffer = torch.zeros(3 * layout.width)
    stacks = Slots(layout, buffer).stacks("y")
    assert stacks is not None
    a, b = stacks
    assert a.shape == (3, 1, 2) and b.shape == (3, 3, 1)
    assert a[2].data_ptr() % 64 == b[1].data_ptr() % 64 == buffer.data_ptr() % 64
    b[1] = 1
    assert buffer.sum() == 3 and buffer.view(3, -1)[1].sum() == 3
