"""What many tests start from."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from limpet.home import Home, init
from limpet.registry.cache import cache_folder, default_cache
from limpet.registry.settings import Settings
from limpet.registry.store import Store, create_store
from limpet.training.base import precision
from limpet.training.base.sample_wheels import WHEELS
from tests.migrated import with_database
from tests.tiny import tiny_base, tiny_csv
from tests.warm import Warm, warm_server


@pytest.fixture(autouse=True, scope="session")
def _no_latency() -> None:
    """Versions are made by the hundred here; the tests of latency measure it all the same."""
    os.environ["LIMPET_LATENCY_SECONDS"] = "0"


@pytest.fixture(autouse=True, scope="session")
def _mirrored_here() -> None:
    """Commands wait for the mirror: a process of its own would outlive its test; the tests of that start one."""
    os.environ["LIMPET_MIRROR_SECONDS"] = "60"


@pytest.fixture(autouse=True, scope="module")
def _settled_libraries() -> None:
    """Every training begins with a collection, which need not look through the libraries hundreds of times."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache of all that has none of its own; of the user's it shares the downloaded wheels, and nothing else."""
    wheels, users = cache_folder() / "wheels", default_cache()
    wheels.mkdir(parents=True, exist_ok=True)
    cache, stand_in = tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("users-cache")
    (cache / "wheels").symlink_to(wheels)
    # other programs find what they keep; whatever limpet writes past the cache that it is given stands out
    for other in users.parent.iterdir() if users.parent.is_dir() else ():
        if other != users:
            (stand_in / other.name).symlink_to(other)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIMPET_CACHE", str(cache))
        patch.setenv("XDG_CACHE_HOME", str(stand_in))
        yield cache
    assert not (stand_in / users.name).exists(), "a test wrote to the cache of whoever runs it"
    pinned = {wheel.file for wheel in WHEELS.values()}
    # another run may be in the middle of a download
    strangers = {path.name for path in wheels.iterdir() if not path.name.startswith(".download-")} - pinned
    assert not strangers, f"a test left more than the pinned wheels in {wheels}"
    # unpacked sample bases: more than what pytest keeps of a run should take
    shutil.rmtree(cache)


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Warm:
    """Processes that have everything imported when they start; all workers of a run share their server."""
    own = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        return warm_server(own.parent, test_run=os.getppid())
    return warm_server(own, test_run=os.getpid())


@pytest.fixture(params=["float32", "bfloat16"])
def auto_dtype(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What dtype `auto` means: on a processor that does not multiply bfloat16 in hardware, and on one that does."""
    dtype: str = request.param
    monkeypatch.setattr(precision, "bf16_is_fast", lambda: dtype == "bfloat16")
    return dtype


@pytest.fixture
def home_folder(tmp_path: Path) -> Path:
    """A folder with an empty database, in which a home can be made."""
    return with_database(tmp_path / "home")


@pytest.fixture
def store(tmp_path: Path, home_folder: Path) -> Store:
    """A new home with SQLite and a blob folder."""
    return create_store(home_folder, Settings(cache=tmp_path / "cache"))


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT as a local folder; tests must not change it."""
    made = tiny_base(tmp_path_factory.mktemp("bases") / "tiny-bert")
    import accelerate  # noqa: F401
    import peft  # noqa: F401

    # these libraries are imported after what is settled before the first module
    gc.collect()
    gc.freeze()
    return made


@pytest.fixture
def home(tmp_path: Path, home_folder: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home on a copy of the tiny base, with two tasks, `place` (three labels) and `wet` (two), and no mirror."""
    monkeypatch.setenv("LIMPET_CACHE", str(tmp_path / "cache"))
    base = tmp_path / "base"
    shutil.copytree(base_folder, base)
    made = init(home_folder, base=str(base), mlflow="off")
    made.task.add("place", f"csv:{tiny_csv(tmp_path / 'place.csv')}", max_length=16)
    made.task.add("wet", f"csv:{tiny_csv(tmp_path / 'wet.csv', labels=('sea', 'rock'), seed=1)}", max_length=16)
    return made
