"""The server: every text answered by its own version, whatever else is asked, moved, deleted or broken meanwhile."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from limpet.errors import IntegrityError, NotFoundError, UsageError
from limpet.home import Home, init
from limpet.registry.blobs.local import LocalBlobs
from limpet.registry.blobs.protocol import blob_key
from limpet.registry.values import VersionRecord
from limpet.training import methods
from limpet.training.base.tensor_digests import module_digest
from limpet.training.evaluation.predict_texts import Prediction
from limpet.training.learning.settings import TrainingSettings
from limpet.training.serving import Server
from tests.migrated import with_database
from tests.tiny import change_one_weight, tiny_base
from tests.training.generation.test_generation import headlines
from tests.training.serving.conftest import TEXTS, Make, maker
from tests.training.typed_data import SPECS, write_rows

# another order of additions in float32
CLOSE = 1e-5


def apart(a: Sequence[Prediction], b: Sequence[Prediction]) -> float:
    """The largest difference of a logit, as a share of the largest logit."""
    assert [(one.text, one.label) for one in a] == [(one.text, one.label) for one in b]
    pairs = [(x, y) for one, other in zip(a, b, strict=True) for x, y in zip(one.logits, other.logits, strict=True)]
    return max(abs(x - y) for x, y in pairs) / max(abs(y) for _, y in pairs)


def ask(server: Server, requests: Sequence[tuple[str, str]]) -> tuple[Prediction, ...]:
    return tuple(served.answer for served in server.predict(requests))


def every_kind(make: Make) -> list[VersionRecord]:
    """Versions of both tasks: LoRA of several forms, heads alone, and methods that slots can't hold."""
    return [
        make("place", seed=1),
        make("wet", seed=2),
        make("place", seed=3),
        make("wet", seed=4, r=4, rslora=True),
        make("place", seed=5, r=3, target_modules="query,value"),
        make("wet", seed=6, dora=True),
        make("place", "ia3", seed=7),
        make("wet", "probe", seed=8),
        make("place", "bottleneck", seed=9),
        make("wet", "prefix", seed=10),
        make("place", "partial", seed=11),
        make("wet", "full", seed=12),
    ]


def test_requests_for_one_version_get_the_very_answers_of_predict(home: Home, make: Make) -> None:
    server = home.serve()
    for version in every_kind(make):
        expected = home.predict(version.reference, TEXTS)
        for _ in range(2):
            assert ask(server, [(version.reference, text) for text in TEXTS]) == expected


def test_every_row_of_a_mixed_request_is_answered_by_its_own_version(home: Home, make: Make) -> None:
    made = every_kind(make)
    digest = module_digest(home.backbone().model)
    requests = [(version.reference, text) for text in TEXTS for version in made]
    expected = [home.predict(reference, [text])[0] for reference, text in requests]
    server = home.serve()
    assert apart(ask(server, requests), expected) < CLOSE
    assert apart(ask(server, requests[::-1]), expected[::-1]) < CLOSE
    assert module_digest(home.backbone().model) == digest
    assert {len(answer.logits) for answer in expected} == {2, 3}


def test_there_and_back_between_two_versions_gives_the_same_bits(home: Home, make: Make) -> None:
    make("place", seed=1), make("place", seed=2)
    server, (a, b) = home.serve(), (home.predict(f"place@{number}", TEXTS) for number in (1, 2))
    assert a != b
    for number, expected in ((1, a), (2, b), (1, a), (2, b)):
        assert ask(server, [(f"place@{number}", text) for text in TEXTS]) == expected


def test_little_memory_makes_it_slower_and_nothing_else(home: Home, make: Make) -> None:
    made = [make("place", seed=seed) for seed in range(5)]
    requests = [(version.reference, text) for text in TEXTS for version in made]
    roomy, tight = home.serve(), home.serve(memory=1)
    assert apart(ask(tight, requests), ask(roomy, requests)) < CLOSE
    assert len(tight.adapter_cache) == 1 and len(roomy.adapter_cache) == 5
    assert set(roomy.slotted.buffer.held()) == {version.digest for version in made}
    assert len(tight.slotted.buffer.held()) == 1


def test_adapters_of_every_layout_together_keep_to_the_memory(home: Home, make: Make) -> None:
    made = [make("place", seed=rank, r=rank) for rank in (1, 2, 3, 4, 6, 8)]
    requests = [(version.reference, text) for text in TEXTS for version in made]
    roomy = home.serve()
    expected = ask(roomy, requests)
    assert len(roomy.slotted.buffer.held()) == len(made)
    largest = roomy.adapter_cache.get(made[-1]).lora
    assert largest is not None
    for memory in (4 * largest.layout.width, 6 * largest.layout.width):
        tight = home.serve(memory=memory)
        assert apart(ask(tight, requests), expected) < CLOSE
        assert tight.slotted.buffer.memory == memory
        assert len(tight.slotted.buffer.held()) < len(made)


def test_an_alias_is_looked_up_at_every_call(home: Home, make: Make) -> None:
    make("place", seed=1), make("place", seed=2)
    server, (first, second) = home.serve(), (home.predict(f"place@{number}", TEXTS[:1]) for number in (1, 2))
    home.adapter.promote("place@1", "live")
    assert ask(server, [("place@live", TEXTS[0])]) == first
    home.adapter.promote("place@2", "live")
    assert ask(server, [("place@live", TEXTS[0])]) == second
    assert server.predict([("place@live", TEXTS[0])])[0].version == "place@2"
    home.adapter.rollback("place", "live")
    assert ask(server, [("place@live", TEXTS[0])]) == first


def test_a_deleted_version_answers_no_more_though_it_is_in_place(home: Home, make: Make) -> None:
    make("place", seed=1), make("place", seed=2)
    server = home.serve()
    ask(server, [("place@1", TEXTS[0])])
    home.adapter.delete("place@1", "a test")
    with pytest.raises(NotFoundError, match="deleted"):
        ask(server, [("place@2", TEXTS[0]), ("place@1", TEXTS[0])])
    assert ask(server, [("place@2", TEXTS[0])]) == home.predict("place@2", TEXTS[:1])


def test_bytes_that_were_deleted_and_registered_again_answer_under_their_new_number(home: Home, make: Make) -> None:
    settings = TrainingSettings(epochs=1, dtype="float32")
    first, server = home.train("place", settings, monitor=False).version, home.serve()
    (before,) = server.predict([("place", TEXTS[0])])
    assert before.version == "place@1"
    home.adapter.delete("place@1", "a test")
    again = home.train("place", settings, monitor=False).version
    assert (again.digest, again.reference) == (first.digest, "place@2")
    (after,) = server.predict([("place", TEXTS[0])])
    assert after.version == "place@2" and after.answer == before.answer
    # also beside others, in one pass
    other = make("wet", seed=2)
    served = server.predict([("place", TEXTS[0]), (other.reference, TEXTS[1]), ("place@2", TEXTS[1])])
    assert [one.version for one in served] == ["place@2", "wet@1", "place@2"]


def test_a_changed_file_is_refused_and_the_others_answer(home: Home, make: Make) -> None:
    good, bad = make("place", seed=1), make("place", seed=2)
    server = home.serve()
    assert isinstance(home.store.blobs, LocalBlobs)
    digest = next(file.digest for file in bad.files if file.name == "adapter_model.safetensors")
    path = home.store.blobs.root / blob_key(digest)
    times = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(IntegrityError, match="hash to"):
        ask(server, [(bad.reference, TEXTS[0])])
    assert ask(server, [(good.reference, TEXTS[0])]) == home.predict(good.reference, TEXTS[:1])


def test_a_version_of_another_base_is_refused(home: Home, make: Make) -> None:
    server = home.serve()
    folder = home.path.parent / "other"
    shutil.copytree(home.path.parent / "base", folder)
    change_one_weight(folder)
    # its tensors have the same shapes, and would load
    version = make("place", base_digest=home.base.add(str(folder)).digest)
    with pytest.raises(IntegrityError, match="was trained on the base"):
        ask(server, [(version.reference, TEXTS[0])])


def test_no_request_is_a_usage_error(home: Home) -> None:
    with pytest.raises(UsageError, match="no text"):
        ask(home.serve(), [])


def test_threads_wait_for_each_other(home: Home, make: Make) -> None:
    made = [make(task, seed=seed) for seed in range(3) for task in ("place", "wet")]
    server = home.serve(memory=1)
    expected = {version.reference: home.predict(version.reference, TEXTS) for version in made}

    def agrees(version: VersionRecord) -> bool:
        return ask(server, [(version.reference, text) for text in TEXTS]) == expected[version.reference]

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(agrees, made * 4))


def test_training_beside_a_server_changes_nothing_for_it(home: Home, make: Make) -> None:
    version = make("place", seed=1)
    server = home.serve()
    before = ask(server, [(version.reference, text) for text in TEXTS])
    home.train("wet", TrainingSettings(epochs=1, dtype="float32"), monitor=False)
    assert ask(server, [(version.reference, text) for text in TEXTS]) == before
    assert ask(server, [("wet", text) for text in TEXTS]) == home.predict("wet", TEXTS)


@pytest.mark.parametrize("base", ["bert", "llama"])
def test_tasks_of_every_type_answer_together(tmp_path: Path, base: str) -> None:
    home = init(with_database(tmp_path / "home"), base=str(tiny_base(tmp_path / "base", base)), mlflow="off")
    for kind in SPECS:
        home.task.add(kind, write_rows(tmp_path / f"{kind}.jsonl", kind), type=kind, max_length=16)
    make = maker(home, tmp_path)
    made = [make(kind, seed=seed) for seed, kind in enumerate(SPECS)] + [make("regression", "probe", seed=9)]
    if base == "llama":
        home.task.add("generation", f"csv:{headlines(tmp_path / 'news.csv')}", type="generation", max_new_tokens=4)
        made.append(make("generation", seed=5))
    requests = [(version.reference, text) for text in TEXTS[:3] for version in made]
    server = home.serve()
    for (reference, text), served in zip(requests, server.predict(requests), strict=True):
        (alone,) = home.predict(reference, [text])
        assert type(served.answer) is type(alone)
        assert_close(asdict(served.answer), asdict(alone))


def assert_close(got: Any, expected: Any) -> None:
    """Numbers up to their last digits, all else equal, however deep."""
    if isinstance(expected, dict):
        assert got.keys() == expected.keys()
        got, expected = list(got.values()), list(expected.values())
    if isinstance(expected, list | tuple):
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            assert_close(one, other)
    else:
        assert got == (pytest.approx(expected, rel=1e-4, abs=CLOSE) if isinstance(expected, float) else expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", [name for name in methods.names() if "bert" in methods.works_on(methods.get(name))]
)
def test_every_method_is_served_as_it_predicts(home: Home, make: Make, method: str) -> None:
    version, other = make("place", method, seed=1, **methods.get(method).example), make("wet", seed=2)
    requests = [(one.reference, text) for one in (version, other) for text in TEXTS]
    # all texts at once: there are methods whose answers depend on what else is in the batch
    expected = [*home.predict(version.reference, TEXTS), *home.predict(other.reference, TEXTS)]
    assert apart(ask(home.serve(), requests), expected) < CLOSE
