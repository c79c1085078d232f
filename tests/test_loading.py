"""Libraries load with the garbage collector at rest, and it wakes up again; a command loads no more than it needs."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from limpet.errors import NotFoundError
from limpet.loading import loading
from limpet.registry.settings import Settings
from limpet.registry.store import create_store


def test_the_collector_rests_inside_and_works_afterwards() -> None:
    frozen = gc.get_freeze_count()
    with loading():
        assert not gc.isenabled()
        with loading():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
    # somebody else's process: nothing of theirs is kept for ever; what was frozen before may have gone meanwhile
    assert gc.get_freeze_count() <= frozen


def test_it_wakes_up_after_an_error_and_stays_asleep_where_it_slept() -> None:
    with pytest.raises(OSError), loading():
        raise OSError
    assert gc.isenabled()
    gc.disable()
    try:
        with loading():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_command_line_keeps_what_it_has_loaded() -> None:
    script = (
        "import gc, sys\nsys.argv = ['limpet', 'task', 'list', '--home', 'nowhere']\nfrom limpet.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    print(gc.get_freeze_count() > 1000, gc.isenabled())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (NotFoundError.exit_code, "True True\n")


END = """
import atexit, sys
from limpet.loading import leave_it_loaded

class Whole:
    def __del__(self):
        print("taken apart")

whole = Whole()

def program():
    atexit.register(print, "what was registered")
    print("what was said", end=" ")
    sys.exit({code})

leave_it_loaded(program)
"""


@pytest.mark.parametrize(("code", "returned"), [("0", 0), ("6", 6)])
def test_a_program_ends_with_its_code_and_what_was_registered_not_taken_apart(code: str, returned: int) -> None:
    done = subprocess.run([sys.executable, "-c", END.format(code=code)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (returned, "what was said what was registered\n", "")


def test_a_program_that_ends_otherwise_is_left_to_python() -> None:
    done = subprocess.run([sys.executable, "-c", END.format(code="'why'")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "why\n")
    assert done.stdout == "what was said what was registered\ntaken apart\n"


DEFERRED = """
import sys
from limpet.loading import keep_what_is_loaded, loading

keep_what_is_loaded()
with loading():
    # as transformers does, and as anybody else may
    from scipy.optimize import linear_sum_assignment
    import scipy.optimize as all_of_it
    import scipy.optimize._dcsrch
print("scipy.optimize" in sys.modules, "scipy.optimize._optimize" in sys.modules)
print(linear_sum_assignment([[4, 1], [2, 3]])[1].tolist())
with loading():
    import scipy.optimize
print(all_of_it.OptimizeResult is scipy.optimize.OptimizeResult, type(scipy.optimize).__name__)
"""


def test_what_transformers_imports_for_losses_that_nobody_asks_for_is_imported_when_it_is_used() -> None:
    done = subprocess.run([sys.executable, "-c", DEFERRED], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False False\n[1, 0]\nTrue module\n", "")


HEAVY = (
    "PIL",
    "accelerate",
    "alembic",
    "datasets",
    "matplotlib",
    "mlflow",
    "numpy",
    "pandas",
    "peft",
    "pyarrow",
    "scipy",
    "sklearn",
    "sqlalchemy.dialects.postgresql",
    "torch",
    "torchvision",
    "transformers",
)


def loaded(script: str) -> set[str]:
    """Return which of the heavy libraries a script has loaded at its end."""
    script += f"\nimport sys\nprint(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_a_list_of_versions_loads_no_heavy_library(tmp_path: Path) -> None:
    create_store(tmp_path / "home", Settings())
    script = (
        "from limpet.cli import cli\n"
        f"try:\n    cli.main(['adapter', 'list', '--home', {str(tmp_path / 'home')!r}])\n"
        "except SystemExit as end:\n    assert not end.code\nprint()"
    )
    assert loaded(script) == set()


def test_what_answers_texts_loads_torch_and_leaves_the_rest_to_the_models_that_need_it() -> None:
    assert loaded("import limpet.home, limpet.cli.commands.predict, limpet.training.evaluation.predict_texts") == {
        "torch",
        "numpy",
    }
