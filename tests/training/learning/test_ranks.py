"""Several processes that learn one task end where one process does, leave what it leaves, and end together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from limpet.errors import TrainingError, UsageError
from limpet.home import Home, Trained, init
from limpet.registry.values import VersionRecord
from limpet.training.heads import HeadConfig
from limpet.training.heads.classification import ClassificationHead
from limpet.training.learning.objectives import TaskLoss
from limpet.training.learning.ranks.launched import Launched
from limpet.training.learning.ranks.share import Share
from limpet.training.learning.settings import TrainingSettings
from limpet.training.model.task_model import version_files
from tests.tiny import tiny_csv

_TOLERANCE = 1e-5
"""How far tensors may be from those of one process, in float32, after so few steps."""


class Texts:
    """Features with as many tokens as each text has, and a label or one for each token."""

    def __init__(self, sizes: Sequence[int], each: bool) -> None:
        draw = torch.Generator().manual_seed(0)
        self.rows = [torch.randn(size, 4, generator=draw) for size in sizes]
        self.targets = [torch.arange(size) % 2 if each else torch.tensor(at % 2) for at, size in enumerate(sizes)]
        self.lengths = list(sizes)

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        pad = nn.utils.rnn.pad_sequence
        rows = [self.targets[index] for index in indices]
        targets = torch.stack(rows) if rows[0].dim() == 0 else pad(rows, batch_first=True, padding_value=-100)
        return {"features": pad([self.rows[index] for index in indices], batch_first=True), "targets": targets}


class EachWord(nn.Module):
    """A head that answers for every word, with a loss over words."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout, self.linear = nn.Dropout(0.3), nn.Linear(4, 2)

    def score(self, features: Tensor) -> Tensor:
        outputs: Tensor = self.linear(self.dropout(features))
        return outputs

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())

    def terms(self, targets: Tensor) -> int:
        return int((targets >= 0).sum())


class Model(nn.Module):
    def __init__(self, head: nn.Module, each: bool) -> None:
        super().__init__()
        self.head, self.each, self.inner = head, each, nn.Linear(4, 4)

    def forward(self, features: Tensor) -> Tensor:
        features = nn.functional.gelu(self.inner(features))
        return self.head.score(features if self.each else features.sum(dim=1))  # type: ignore[operator]


def gradients(model: Model, texts: Texts, share: Share | None, limit: int) -> tuple[list[Tensor], float]:
    """One step's gradients and loss: of all rows, or of those of a share."""
    model.zero_grad()
    loss = TaskLoss(texts, model.head, "cpu", max_tokens_per_microbatch=limit, share=share)  # type: ignore[arg-type]
    torch.manual_seed(0)
    total = 0.0
    for part in loss.losses(model, range(len(texts.rows))):
        part.backward()  # type: ignore[no-untyped-call]
        total += float(part.detach())
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None], total


@pytest.mark.parametrize("each", [False, True], ids=["a label a text", "a label a word"])
@pytest.mark.parametrize("sizes", [[3, 9, 4, 6, 2, 8, 5], [5, 3]], ids=["enough texts", "fewer texts than processes"])
@pytest.mark.parametrize("limit", [10_000, 16], ids=["at once", "in microbatches"])
def test_the_shares_of_a_step_add_up_to_the_step(each: bool, sizes: list[int], limit: int) -> None:
    torch.manual_seed(0)
    head = EachWord() if each else ClassificationHead(HeadConfig("classification", "mean", 4, 2, 0.3))
    model, texts = Model(head, each).train(), Texts(sizes, each)
    whole, loss = gradients(model, texts, None, limit)
    shares = [Share(rank, 3) for rank in range(3)]
    parts = []
    for share in shares:
        with share.sharing_dropout(model):
            parts.append(gradients(model, texts, share, limit))
    assert sum(part[1] for part in parts) == pytest.approx(loss, rel=1e-5)
    for index, gradient in enumerate(whole):
        torch.testing.assert_close(sum(part[0][index] for part in parts), gradient, rtol=1e-4, atol=1e-6)


def test_dropout_is_as_before_once_it_is_no_longer_shared() -> None:
    dropout = nn.Dropout(0.5)
    model, share = nn.Sequential(dropout), Share(1, 2)
    with share.sharing_dropout(model):
        share.of({"features": torch.ones(4, 8)})
        torch.manual_seed(0)
        shared = model.train()(torch.ones(2, 8))
        assert torch.equal(model.eval()(torch.ones(2, 8)), torch.ones(2, 8))
    torch.manual_seed(0)
    assert torch.equal(model.train()(torch.ones(4, 8))[1::2], shared)


def tensors(home: Home, version: VersionRecord) -> dict[str, Tensor]:
    files = version_files(home.store, home.backbone(), version)
    return {
        f"{name}/{key}": tensor
        for name, path in files.items()
        if name.endswith(".safetensors")
        for key, tensor in load_file(path).items()
    }


def largest_difference(home: Home, one: Trained, other: Trained) -> float:
    ours, theirs = tensors(home, one.version), tensors(home, other.version)
    assert ours.keys() == theirs.keys()
    return max(float((ours[key] - theirs[key]).abs().max()) for key in ours)


def settings(**changes: object) -> TrainingSettings:
    return TrainingSettings(**{"epochs": 2, "batch_size": 8, "dtype": "float32", **changes})  # type: ignore[arg-type]


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_two_processes_learn_what_one_learns(home: Home, one_thread: None) -> None:
    alone = home.train("place", settings())
    together = home.train("place", settings(), processes=2)
    assert together.version.metrics["score"] == alone.version.metrics["score"]
    assert largest_difference(home, alone, together) < _TOLERANCE
    assert "processes" not in alone.version.cost
    assert (together.version.cost["processes"], together.version.config) == (2, alone.version.config)
    assert together.version.cost["examples_seen"] == alone.version.cost["examples_seen"]
    assert not list((home.path / "runs").iterdir())
    assert home.verify().problems == ()


def test_a_launcher_says_who_leads(monkeypatch: pytest.MonkeyPatch, home: Home) -> None:
    assert Launched.from_environment() is None
    said = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert Launched.from_environment() == Launched(1, 1, 2, "localhost", 1)
    with pytest.raises(UsageError, match="process 1 of 2"):
        home.train("place")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UsageError, match="started 2 processes, and 3 were asked for"):
        home.train("place", processes=3)
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(UsageError, match="whole numbers"):
        home.train("place")


def test_no_process_at_all_is_refused(home: Home) -> None:
    with pytest.raises(UsageError, match="1 or more"):
        home.train("place", processes=0)


LONG = ["train", "place", "--epochs", "300", "--batch-size", "8", "--dtype", "float32", "--json"]


def started(home: Home, *arguments: str, launcher: Sequence[str] = ()) -> subprocess.Popen[str]:
    """Start `limpet` cold, with a checkpoint after every step."""
    python = launcher or [sys.executable, "-P"]
    return subprocess.Popen(
        [*python, "-m", "limpet", *arguments, "--home", str(home.path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"LIMPET_CHECKPOINT_SECONDS": "0", "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    """What a test starts; none outlives it."""
    begun: list[subprocess.Popen[str]] = []
    yield begun
    for process in begun:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for_checkpoint(home: Home, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 60
    while not list((home.path / "runs").glob("*/checkpoint.safetensors")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)


def gone(pids: Sequence[int], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.slow
def test_a_killed_process_ends_all_with_a_checkpoint_that_training_goes_on_from(
    home: Home, processes: list[subprocess.Popen[str]], one_thread: None
) -> None:
    process = started(home, *LONG, "--processes", "2")
    processes.append(process)
    wait_for_checkpoint(home, process)
    (other,) = children(process.pid)
    os.kill(other, signal.SIGKILL)
    began = time.monotonic()
    printed, said = process.communicate(timeout=30)
    assert time.monotonic() - began < 10
    assert (process.returncode, printed) == (1, "")
    error = json.loads(said.splitlines()[-1])["error"]
    assert error == {
        "type": "TrainingError",
        "message": "Process 1 of 2 was killed by SIGKILL. Nothing was registered; a checkpoint was kept.",
        "hint": "limpet train place --processes 2 --resume",
    }
    assert not home.adapter.list().items
    assert list((home.path / "runs").glob("*/checkpoint.safetensors"))
    resumed = home.train("place", None, resume=True, processes=2)
    undisturbed = home.train("place", settings(epochs=300))
    assert resumed.version.metrics["score"] == undisturbed.version.metrics["score"]
    assert largest_difference(home, resumed, undisturbed) < 1e-3


@pytest.mark.slow
def test_who_leads_is_killed_and_the_others_end(home: Home, processes: list[subprocess.Popen[str]]) -> None:
    process = started(home, *LONG, "--processes", "2")
    processes.append(process)
    wait_for_checkpoint(home, process)
    others = children(process.pid)
    process.kill()
    process.communicate()
    assert gone(others, 10)
    assert not home.adapter.list().items
    # the lock went with it
    with suppress(subprocess.TimeoutExpired):
        again = started(home, "train", "place", "--resume", "--json")
        processes.append(again)
        again.communicate(timeout=8)
    assert again.returncode in (None, 0)


@pytest.mark.slow
def test_ctrl_c_stops_all_after_a_step(home: Home, processes: list[subprocess.Popen[str]]) -> None:
    process = started(home, *LONG, "--processes", "2")
    processes.append(process)
    wait_for_checkpoint(home, process)
    others = children(process.pid)
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate(timeout=30)
    assert (process.returncode, printed) == (130, "")
    assert json.loads(said.splitlines()[-1])["error"]["hint"] == "limpet train place --resume"
    assert gone(others, 5)
    assert list((home.path / "runs").glob("*/checkpoint.safetensors"))


@pytest.mark.slow
def test_an_error_of_another_process_is_the_error_of_all(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    # only a process that is started reads it
    monkeypatch.setattr(
        "limpet.training.learning.ranks.company._environment",
        lambda store: os.environ | {"LIMPET_HOME": str(home.path.parent / "elsewhere")},
    )
    elsewhere = init(home.path.parent / "elsewhere", base=home.store.settings.base, mlflow="off")
    elsewhere.task.add("wet", f"csv:{home.path.parent / 'wet.csv'}", max_length=16)
    with pytest.raises(Exception, match="no task 'place'") as raised:
        home.train("place", settings(), processes=2)
    assert type(raised.value).__name__ == "NotFoundError"
    # another content under the same name
    elsewhere.task.add("place", f"csv:{tiny_csv(home.path.parent / 'other.csv', seed=5)}", max_length=16)
    with pytest.raises(TrainingError, match="would learn something else"):
        home.train("place", settings(), processes=2)
    assert not home.adapter.list().items


@pytest.mark.slow
@pytest.mark.parametrize("method", ["linear-probe"])
def test_what_needs_one_process_alone_is_done_by_one(home: Home, method: str) -> None:
    trained = home.train("place", TrainingSettings(method), processes=2)
    assert "processes" not in trained.version.cost
    assert trained.version.digest == home.train("place", TrainingSettings(method)).version.digest


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "prefix", "bottleneck"])
def test_other_methods_learn_what_one_process_learns(home: Home, method: str, one_thread: None) -> None:
    # what drops attention probabilities draws otherwise: then only what comes out is alike
    alone = home.train("place", settings(method=method))
    together = home.train("place", settings(method=method), processes=2)
    if method != "full":
        assert largest_difference(home, alone, together) < 1e-4
    assert together.version.cost["processes"] == 2


@pytest.mark.slow
def test_a_launcher_starts_all_and_one_of_them_answers(home: Home, processes: list[subprocess.Popen[str]]) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    quick = ["train", "place", "--epochs", "2", "--batch-size", "8", "--dtype", "float32", "--json"]
    process = started(home, *quick, launcher=torchrun)
    processes.append(process)
    printed, said = process.communicate(timeout=90)
    assert process.returncode == 0, said
    version = json.loads(printed)["version"]
    assert version["cost"]["processes"] == 2
    assert [one.reference for one in home.adapter.list().items] == ["place@1"]
    # what was learned already needs nobody, and nobody waits
    again = started(home, *quick, launcher=torchrun)
    processes.append(again)
    printed, said = again.communicate(timeout=90)
    assert json.loads(printed)["version"]["digest"] == version["digest"]


@pytest.mark.slow
def test_a_launched_process_is_killed_and_the_first_says_so(
    home: Home, processes: list[subprocess.Popen[str]]
) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = started(home, *LONG, launcher=torchrun)
    processes.append(process)
    wait_for_checkpoint(home, process)
    _, other = sorted(children(process.pid))
    os.kill(other, signal.SIGKILL)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert printed == ""
    assert "a checkpoint was kept" in said
    assert not home.adapter.list().items
