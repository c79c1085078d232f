from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from limpet.errors import ConflictError
from limpet.registry import versions
from limpet.registry.store import Store, open_store
from limpet.registry.verification.verify import verify
from limpet.registry.versions import alias_history, aliases
from tests.registry.homes import add_version, draft, register

PROCESSES = 8
EACH = 12


def run_together(home: Store, work: Callable[..., Any]) -> list[Any]:
    """Run `work(store, i)` in eight processes that begin at the same moment; return what each returned."""
    # children of a server that has imported, but opened nothing: no connection is shared with the parent
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    answers: multiprocessing.Queue[Any] = context.Queue()
    start = context.Barrier(PROCESSES)
    workers = [context.Process(target=_worker, args=(home.path, work, i, start, answers)) for i in range(PROCESSES)]
    for worker in workers:
        worker.start()
    found = [answers.get(timeout=240) for _ in workers]
    for worker in workers:
        worker.join()
    return found


def _worker(path: Path, work: Callable[..., Any], i: int, start: Any, answers: Any) -> None:
    store = open_store(path)
    start.wait()
    try:
        answers.put(work(store, i))
    except Exception as error:
        answers.put(repr(error))


def _register_many(store: Store, i: int, each: int = EACH) -> list[str]:
    return [add_version(store, "news" if (n + i) % 2 else "films", seed=1000 * i + n).reference for n in range(each)]


def _register_a_hundred(store: Store, i: int) -> list[str]:
    return _register_many(store, i, 100)


def _check_all_there(home: Store, made: list[Any], total: int) -> None:
    everyone = [reference for list_ in made for reference in list_]
    assert len(everyone) == len(set(everyone)) == total
    for task in ("news", "films"):
        numbers = sorted(int(ref.split("@")[1]) for ref in everyone if ref.startswith(task))
        assert numbers == list(range(1, total // 2 + 1))
    page = versions.find(home, limit=1000)
    assert {version.reference for version in page.items} == set(everyone)
    assert verify(home) == ()


def test_eight_processes_register_without_gaps_or_losses(home: Store) -> None:
    _check_all_there(home, run_together(home, _register_many), PROCESSES * EACH)


@pytest.mark.slow
def test_eight_processes_register_a_hundred_each(home: Store) -> None:
    _check_all_there(home, run_together(home, _register_a_hundred), PROCESSES * 100)


def _race(store: Store, i: int) -> str:
    try:
        aliases.promote(store, f"news@{i + 2}", "production", expect="news@1")
    except ConflictError as error:
        return f"exit {error.exit_code}"
    return f"won with {i + 2}"


def test_exactly_one_of_eight_racers_moves_the_alias(home: Store) -> None:
    for seed in range(PROCESSES + 1):
        add_version(home, seed=seed)
    aliases.promote(home, "news@1", "production")
    outcomes = run_together(home, _race)
    winners = [outcome for outcome in outcomes if outcome.startswith("won")]
    assert outcomes.count("exit 4") == PROCESSES - 1
    assert winners == [f"won with {versions.resolve(home, 'news@production').number}"]
    assert len(alias_history.moves(home, "news")) == 2


def _register_the_same(store: Store, i: int) -> tuple[str, bool]:
    file = store.path / f"copy-{i}"
    file.write_bytes(b"the same bytes" * 10_000)
    version, created = versions.register(store, draft(), {"adapter_model.safetensors": file})
    return version.digest, created


def test_identical_registrations_at_once_make_one_version(home: Store) -> None:
    outcomes = run_together(home, _register_the_same)
    assert len({digest for digest, _ in outcomes}) == 1
    assert sum(created for _, created in outcomes) == 1
    assert len(versions.find(home).items) == 1


def _read_and_write(store: Store, i: int) -> int:
    if i % 2:
        return len(_register_many(store, i, 6))
    seen = 0
    for _ in range(30):
        page = versions.find(store, limit=1000)
        numbers = sorted(version.number for version in page.items if version.task == "news")
        # a reader sees whole versions only, and no gap
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) >= seen
        seen = len(numbers)
    return 6


def test_readers_see_only_whole_versions_while_others_write(home: Store) -> None:
    register(home, draft())
    assert run_together(home, _read_and_write) == [6] * PROCESSES
