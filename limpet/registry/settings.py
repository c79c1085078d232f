"""The settings of a home: flags win over the environment, that over `limpet.toml`, that over defaults."""

from __future__ import annotations

import json
import os
import secrets
import stat
import tomllib
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from limpet.errors import LimpetError, UsageError
from limpet.redaction import has_secret
from limpet.registry.cache import cache_folder, size_limit
from limpet.registry.system.atomic_files import sync_file
from limpet.registry.system.home_folder import SETTINGS_FILE

__all__ = [
    "DEFAULT_BASE",
    "MONITOR_MODES",
    "SETTINGS_FILE",
    "MonitorMode",
    "Settings",
    "as_variables",
    "check_monitor_mode",
    "load_settings",
    "read_table",
    "setting_sources",
    "write_settings",
]

DEFAULT_BASE = "sample:minilm"
MonitorMode = Literal["full", "audit", "off"]
"""What is done about the earlier tasks after an addition: all examples are answered again, an audit, or nothing."""
MONITOR_MODES: tuple[MonitorMode, ...] = ("full", "audit", "off")
_LARGEST = 1 << 20
# the cache belongs to the machine, not to the home: it is never written to limpet.toml
_KEPT = ("base", "db", "blobs", "mlflow", "evaluation_dtype", "monitor")


@dataclass(frozen=True)
class Settings:
    """What a home is set to.

    `base` is the name of the default base, `db` a database URL (null: SQLite in the home), `blobs` a folder
    or fsspec URL (null: a folder in the home), `mlflow` a tracking URI (`off` disables the mirror), `cache`
    the folder for what can be fetched again, `evaluation_dtype` what the monitor computes products in (`float32` or
    `bfloat16`; null: the latter where it is fast), `monitor` what an addition does about the earlier tasks, one of
    `MONITOR_MODES` (null: `full`).
    """

    base: str | None = None
    # a URL may carry a password, and a repr ends up in logs and notebooks
    db: str | None = field(default=None, repr=False)
    blobs: str | None = field(default=None, repr=False)
    mlflow: str | None = field(default=None, repr=False)
    evaluation_dtype: str | None = None
    monitor: str | None = None
    cache: Path = Path("~/.cache/limpet")


def load_settings(path: Path, **flags: str | Path | None) -> Settings:
    """Load the settings of the home folder `path`.

    Args:
        path: The home folder; it need not exist yet.
        flags: Settings by name that win over everything else; null means not given.

    Raises:
        UsageError: A setting is unknown or not a text, or `limpet.toml` is not TOML.
        LimpetError: The user has no home folder, and no cache is set.
    """
    file = _read_file(path)
    values: dict[str, str | Path] = {}
    names = [one.name for one in fields(Settings)]
    if unknown := sorted(set(flags) - set(names)):
        raise UsageError(f"There is no setting {unknown[0]!r}.", f"the settings are {', '.join(names)}")
    for name in names:
        for value in (flags.get(name), os.environ.get(f"LIMPET_{name.upper()}"), file.get(name)):
            if value:
                values[name] = _text(name, value)
                break
    # asked for where something was computed and is to be kept, which is late for the word that it is no size
    size_limit()
    own = values.pop("cache", None)
    cache = cache_folder() if own in (None, os.environ.get("LIMPET_CACHE")) else Path(own).expanduser().absolute()
    return Settings(cache=cache, **{name: str(value) for name, value in values.items()})


def as_variables(path: Path, settings: Settings) -> dict[str, str]:
    """Return the environment variables that open the home `path` with these settings in another process.

    Settings may hold passwords, so they never stand in a command line.
    """
    own = {
        "HOME": str(path.absolute()),
        "DB": settings.db,
        "BLOBS": settings.blobs,
        "EVALUATION_DTYPE": settings.evaluation_dtype,
        "CACHE": str(settings.cache),
    }
    return {f"LIMPET_{name}": value for name, value in own.items() if value}


def check_monitor_mode(mode: str, hint: str = '--monitor full, or monitor = "full" in limpet.toml') -> MonitorMode:
    """Return a mode of the monitor, if it is one.

    Raises:
        UsageError: It is none.
    """
    if mode not in MONITOR_MODES:
        known = f"{', '.join(MONITOR_MODES[:-1])} and {MONITOR_MODES[-1]}"
        raise UsageError(f"The monitor has no mode {mode!r}; there are {known}.", hint)
    return mode


def setting_sources(path: Path) -> dict[str, str]:
    """Return where each setting of the home folder `path` comes from: `LIMPET_DB`, `limpet.toml` or `default`.

    Raises:
        UsageError: `limpet.toml` is not TOML, or sets what is no setting.
    """
    file = _read_file(path)
    sources = {}
    for name in (one.name for one in fields(Settings)):
        variable = f"LIMPET_{name.upper()}"
        sources[name] = variable if os.environ.get(variable) else SETTINGS_FILE if file.get(name) else "default"
    return sources


def write_settings(path: Path, settings: Settings) -> None:
    """Write `limpet.toml` into the home folder `path`, whole or not at all.

    Raises:
        LimpetError: The file can't be written.
    """
    lines = ["# the settings of this limpet home; flags and LIMPET_* variables win over them\n"]
    values = [(name, getattr(settings, name)) for name in _KEPT if getattr(settings, name) is not None]
    for name, value in values:
        # a JSON string is a TOML basic string, but for a raw DEL
        text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        lines.append(f"{name} = {text}\n")
    temporary = path / f".{SETTINGS_FILE}.{secrets.token_hex(8)}"
    try:
        with open(temporary, "w", encoding="utf-8", opener=_open_new) as file:
            file.writelines(lines)
            os.fchmod(file.fileno(), _mode(path, any(has_secret(value) for _, value in values)))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path / SETTINGS_FILE)
        sync_file(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise LimpetError(
            f"The settings can't be written to {path}: {error.strerror}.", f"check the folder: ls -ld {path}"
        ) from error


def read_table(path: Path) -> dict[str, Any]:
    """Read a home's `limpet.toml`; a file that is not there is empty.

    Args:
        path: The home folder.

    Raises:
        UsageError: The file is not TOML, no regular file, or larger than settings are.
        LimpetError: The file can't be read.
    """
    file = path / SETTINGS_FILE
    try:
        # a pipe in its place would be waited for for ever
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as opened:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UsageError(f"{file} is no file of settings.", f"ls -l {file}")
            content = opened.read(_LARGEST + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise LimpetError(f"{file} can't be read: {error.strerror}.", f"ls -l {file}") from error
    if len(content) > _LARGEST:
        raise UsageError(f"{file} is larger than {_LARGEST} bytes, which no settings are.", f"ls -l {file}")
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{file} is not TOML: {error}.", f"correct it, or remove the line: {file}") from error


def _text(name: str, value: str | Path) -> str | Path:
    try:
        str(value).encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(f"The setting {name} is not UTF-8: {str(value)!a}.", f"write it in UTF-8: {name}") from None
    return value


def _open_new(name: str, flags: int) -> int:
    # never through a link that somebody laid there
    return os.open(name, flags | os.O_EXCL | os.O_NOFOLLOW, 0o600)


def _mode(folder: Path, secret: bool) -> int:
    """Return who may read the settings: whoever the folder is shared with.

    A password is for the owner, and for the group where the group may write the home too; never for everybody.
    """
    shared = folder.stat().st_mode
    if not secret:
        return 0o600 | (shared & 0o044)
    return 0o640 if shared & 0o020 else 0o600


def _read_file(folder: Path) -> dict[str, str]:
    table, path = read_table(folder), folder / SETTINGS_FILE
    names = {one.name for one in fields(Settings)}
    for name, value in table.items():
        # a table is another part's business, such as [gate]
        if isinstance(value, dict):
            continue
        if name not in names:
            raise UsageError(
                f"{path} sets {name!r}, which is no setting.", f"the settings are {', '.join(sorted(names))}"
            )
        if not isinstance(value, str):
            raise UsageError(f"{path} sets {name!r} to {value!r}, which is not a text.", f'write {name} = "..."')
    return {name: value for name, value in table.items() if isinstance(value, str)}
