"""A home with tiny tasks, for fixtures that make one for many tests."""

from __future__ import annotations

from pathlib import Path

from limpet.home import Home, init
from tests.migrated import with_database
from tests.tiny import tiny_csv

__all__ = ["tiny_home"]


def tiny_home(folder: Path, base: Path) -> Home:
    """Make a home on a base, with two tasks, `place` (three labels) and `wet` (two), and no mirror."""
    home = init(with_database(folder / "home"), base=str(base), mlflow="off")
    home.task.add("place", f"csv:{tiny_csv(folder / 'place.csv')}", max_length=16)
    home.task.add("wet", f"csv:{tiny_csv(folder / 'wet.csv', labels=('sea', 'rock'), seed=1)}", max_length=16)
    return home
