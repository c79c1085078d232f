"""Libraries load with the garbage collector at rest, and it wakes up again."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from limpet.loading import loading


def test_the_collector_rests_inside_and_works_afterwards() -> None:
    frozen = gc.get_freeze_count()
    with loading():
        assert not gc.isenabled()
        with loading():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
    # somebody else's process: nothing of theirs is kept for ever
    assert gc.get_freeze_count() == frozen


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
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "True True\n"
