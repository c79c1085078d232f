"""Batches: every example once, a fixed plan for evaluation, padding behind the text."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from limpet.registry.formats.canonical import digest_json
from limpet.training.batching.batches import (
    MAX_TOKENS_PER_MICROBATCH,
    Writing,
    collate,
    draw_evenly,
    evaluation_plan,
    max_tokens_per_microbatch,
    max_tokens_to_learn,
    microbatches,
    training_batches,
)
from limpet.training.batching.encoded import Encoded

PLAN_OF_A_PROCESSOR = "sha256:50c51e0c68796740785384925267d1a40c7ad99beb4f55ccc59f3ac02baf2bb4"
lengths = st.lists(st.integers(1, 70), min_size=1, max_size=200)


@given(lengths, st.integers(1, 40), st.integers(0, 5), st.integers(0, 3))
def test_training_sees_every_example_once_an_epoch(sizes: list[int], batch: int, seed: int, epoch: int) -> None:
    batches = training_batches(sizes, batch, seed, epoch=epoch)
    assert sorted(index for one in batches for index in one) == list(range(len(sizes)))
    assert max(map(len, batches)) <= batch
    assert batches == training_batches(sizes, batch, seed, epoch=epoch)


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    sizes = [10] * 64
    orders = [training_batches(sizes, 8, seed, epoch=epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert orders[0] != orders[1] != orders[2] != orders[0]


@given(lengths, st.integers(1, 40))
def test_an_evaluation_plan_holds_every_example_once_and_pads_to_the_longest(sizes: list[int], batch: int) -> None:
    plan = evaluation_plan(sizes, batch)
    assert sorted(index for one in plan.batches for index in one) == list(range(len(sizes)))
    for indices, length in zip(plan.batches, plan.lengths, strict=True):
        assert max(sizes[index] for index in indices) <= length < max(sizes[index] for index in indices) + 8
    assert plan.digest == evaluation_plan(list(sizes), batch).digest


def test_another_length_gives_another_plan() -> None:
    assert evaluation_plan([5, 9, 30]).digest != evaluation_plan([5, 9, 33]).digest


@given(lengths, st.integers(8, 600))
def test_pieces_hold_every_text_once_and_no_more_tokens_than_allowed(sizes: list[int], budget: int) -> None:
    found = microbatches(sizes, range(len(sizes)), budget)
    assert sorted(index for piece in found for index in piece) == list(range(len(sizes)))
    for piece in found:
        padded = collate([[1] * sizes[index] for index in piece], pad_id=0)["input_ids"]
        assert padded.numel() <= budget or len(piece) == 1


def test_a_batch_within_the_budget_is_one_piece_in_its_own_order() -> None:
    assert microbatches([9, 3, 5], [2, 0, 1], 48) == [[2, 0, 1]]
    assert microbatches([9, 3, 5], [2, 0, 1], 47) == [[1, 2], [0]]


def test_an_evaluation_of_long_texts_has_fewer_of_them_in_a_batch() -> None:
    plan = evaluation_plan([512] * 40)
    assert {len(batch) for batch in plan.batches} == {MAX_TOKENS_PER_MICROBATCH // 512}


def test_an_accelerator_computes_more_at_once() -> None:
    assert max_tokens_per_microbatch("cpu") == MAX_TOKENS_PER_MICROBATCH < max_tokens_per_microbatch("cuda")


def test_an_evaluation_on_an_accelerator_has_larger_batches_and_those_of_a_processor_stay() -> None:
    sizes = [32] * 600 + [512] * 300
    plan = evaluation_plan(sizes, device="cuda")
    padded = [len(batch) * length for batch, length in zip(plan.batches, plan.lengths, strict=True)]
    assert MAX_TOKENS_PER_MICROBATCH < max(padded) <= max_tokens_per_microbatch("cuda")
    assert max(map(len, plan.batches)) == 512
    texts = Encoded(tuple([1] * size for size in sizes), evaluation_plan(sizes), 0)
    assert texts.planned_for("cpu") is texts
    assert texts.planned_for("cuda").plan == plan
    assert texts.inputs_digest() == texts.planned_for("cuda").inputs_digest()
    # recorded with evaluations, so that it is never changed unseen
    assert evaluation_plan([5, 9, 30, 300] * 40).digest == PLAN_OF_A_PROCESSOR


@given(st.integers(1, 30), st.integers(0, 100), st.integers(0, 3))
def test_rehearsed_examples_come_as_often_as_each_other(count: int, draws: int, epoch: int) -> None:
    drawn = draw_evenly(count, draws, seed=0, epoch=epoch)
    often = [drawn.count(index) for index in range(count)]
    assert len(drawn) == draws == sum(often)
    assert max(often) - min(often) <= 1
    assert drawn == draw_evenly(count, draws, seed=0, epoch=epoch)


def test_padding_stands_behind_the_text_and_is_masked() -> None:
    batch = collate([[1, 2, 3], [4]], pad_id=9)
    assert batch["input_ids"].tolist()[1] == [4, 9, 9, 9, 9, 9, 9, 9]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0]]
    assert batch["attention_mask"].dtype == torch.int64
    assert collate([[1, 2, 3]], pad_id=9, length=16)["input_ids"].shape == (1, 16)


def test_a_plan_by_which_answers_are_written_has_another_digest_and_the_others_keep_theirs() -> None:
    lengths = [12, 30, 7, 160]
    plan = evaluation_plan(lengths)
    assert plan.digest == digest_json({"batches": plan.batches, "lengths": plan.lengths})
    written = evaluation_plan(lengths, writing=Writing(new_tokens=8))
    assert (written.batches, written.lengths) == (plan.batches, plan.lengths)
    assert written.digest != plan.digest


def test_as_many_texts_are_written_together_as_there_is_room_for_with_their_answers() -> None:
    lengths = [160] * 100
    assert {len(batch) for batch in evaluation_plan(lengths).batches} == {12, 4}
    wide = evaluation_plan(lengths, writing=Writing(new_tokens=24, at_once=30 * 184))
    assert [len(batch) for batch in wide.batches] == [30, 30, 30, 10]
    assert wide.lengths == (160,) * 4


def test_of_a_deeper_base_fewer_tokens_are_learned_at_once_on_a_processor() -> None:
    layers_and_width = {"minilm": (6, 384), "bert-base": (12, 768), "smollm2": (30, 576), "a billion": (22, 2048)}
    tokens = [max_tokens_to_learn("cpu", *size) for size in layers_and_width.values()]
    assert tokens == [2048, 2048, 1024, 512]
    assert max_tokens_to_learn("cuda", 22, 2048) == max_tokens_per_microbatch("cuda")
