"""Which home is meant, by the folders alone: nothing of it is opened, and nothing heavy imported."""

from __future__ import annotations

import os
from pathlib import Path

from limpet.errors import ConflictError, NotFoundError

__all__ = ["HOME_FOLDER", "SETTINGS_FILE", "find_home"]

HOME_FOLDER = ".limpet"
SETTINGS_FILE = "limpet.toml"
_ROOT = 0


def find_home(start: Path, named: Path | None = None) -> Path:
    """Return the home to use: the one that was named, else `LIMPET_HOME`, else the nearest `.limpet/` upward.

    Whoever names the folder in which a `.limpet/` lies means that. A home that nobody has named is only used if it is
    the user's or root's: in a folder where everybody may write, anybody could lay one in the way of those who work
    below.

    Args:
        start: The folder from which to look upward.
        named: The folder that somebody named; nothing says yet that a home is in it.

    Raises:
        ConflictError: The nearest one is another user's.
        NotFoundError: There is none.
    """
    variable = os.environ.get("LIMPET_HOME")
    if named is not None or variable:
        return _in_folder(Path(variable or "") if named is None else named)
    start = start.absolute()
    for folder in (start, *start.parents):
        if (folder / HOME_FOLDER / SETTINGS_FILE).is_file():
            _check_trusted(folder / HOME_FOLDER)
            return folder / HOME_FOLDER
    raise NotFoundError(f"There is no {HOME_FOLDER}/ in {start} nor in any folder above it.", "limpet init")


def _in_folder(folder: Path) -> Path:
    folder = folder.expanduser().absolute()
    inside = folder / HOME_FOLDER
    if (folder / SETTINGS_FILE).is_file() or not (inside / SETTINGS_FILE).is_file():
        return folder
    _check_trusted(inside)
    return inside


def _check_trusted(home: Path) -> None:
    trusted = {os.geteuid(), _ROOT}
    if os.geteuid() == _ROOT and os.environ.get("SUDO_UID", "").isdigit():
        trusted.add(int(os.environ["SUDO_UID"]))
    # of a link both: it, and what it leads to
    owners = {home.lstat().st_uid, home.stat().st_uid, (home / SETTINGS_FILE).lstat().st_uid}
    if others := owners - trusted:
        raise ConflictError(
            f"The nearest home {home} belongs to another user (uid {min(others)}), and was not named by you.",
            f"if it is the one you mean: limpet --home {home}, or LIMPET_HOME={home}",
        )
