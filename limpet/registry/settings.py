"""The settings of a home: flags win over the environment, that over `limpet.toml`, that over defaults."""

from __future__ import annotations

import json
import os
import tomllib
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from limpet.errors import LimpetError, UsageError

__all__ = [
    "DEFAULT_BASE",
    "SETTINGS_FILE",
    "Settings",
    "default_cache",
    "load_settings",
    "setting_sources",
    "write_settings",
]

SETTINGS_FILE = "limpet.toml"
DEFAULT_BASE = "sample:minilm"
# the cache belongs to the machine, not to the home: it is never written to limpet.toml
_KEPT = ("base", "db", "blobs", "mlflow", "evaluation_dtype")


def default_cache() -> Path:
    """Return the user's cache folder for limpet, by the XDG rules."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(root) if Path(root).is_absolute() else Path.home() / ".cache") / "limpet"


@dataclass(frozen=True)
class Settings:
    """What a home is set to.

    `base` is the name of the default base, `db` a database URL (null: SQLite in the home), `blobs` a folder
    or fsspec URL (null: a folder in the home), `mlflow` a tracking URI (`off` disables the mirror), `cache`
    the folder for what can be fetched again, `evaluation_dtype` what the monitor computes products in (`float32` or
    `bfloat16`; null: the latter where it is fast).
    """

    base: str | None = None
    db: str | None = None
    blobs: str | None = None
    mlflow: str | None = None
    evaluation_dtype: str | None = None
    cache: Path = Path("~/.cache/limpet")


def load_settings(path: Path, **flags: str | Path | None) -> Settings:
    """Load the settings of the home folder `path`.

    Args:
        path: The home folder; it need not exist yet.
        flags: Settings by name that win over everything else; null means not given.

    Raises:
        UsageError: A setting is unknown or not a text, or `limpet.toml` is not TOML.
    """
    file = _read_file(path / SETTINGS_FILE)
    values: dict[str, str | Path] = {}
    names = [field.name for field in fields(Settings)]
    if unknown := sorted(set(flags) - set(names)):
        raise UsageError(f"There is no setting {unknown[0]!r}.", f"the settings are {', '.join(names)}")
    for name in names:
        for value in (flags.get(name), os.environ.get(f"LIMPET_{name.upper()}"), file.get(name)):
            if value:
                values[name] = value
                break
    cache = Path(values.pop("cache", default_cache())).expanduser().absolute()
    return Settings(cache=cache, **{name: str(value) for name, value in values.items()})


def setting_sources(path: Path) -> dict[str, str]:
    """Return where each setting of the home folder `path` comes from: `LIMPET_DB`, `limpet.toml` or `default`.

    Raises:
        UsageError: `limpet.toml` is not TOML, or sets what is no setting.
    """
    file = _read_file(path / SETTINGS_FILE)
    sources = {}
    for name in (field.name for field in fields(Settings)):
        variable = f"LIMPET_{name.upper()}"
        sources[name] = variable if os.environ.get(variable) else SETTINGS_FILE if file.get(name) else "default"
    return sources


def write_settings(path: Path, settings: Settings) -> None:
    """Write `limpet.toml` into the home folder `path`, whole or not at all.

    Raises:
        LimpetError: The file can't be written.
    """
    lines = ["# the settings of this limpet home; flags and LIMPET_* variables win over them\n"]
    for name in _KEPT:
        value = getattr(settings, name)
        if value is not None:
            # a JSON string is a TOML basic string, but for a raw DEL
            text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
            lines.append(f"{name} = {text}\n")
    temporary = path / f".{SETTINGS_FILE}.{os.getpid()}"
    try:
        # the database URL may carry a password
        with open(temporary, "w", encoding="utf-8", opener=_open_private) as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path / SETTINGS_FILE)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise LimpetError(
            f"The settings can't be written to {path}: {error.strerror}.", f"check the folder: ls -ld {path}"
        ) from error


def _open_private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


def _read_file(path: Path) -> dict[str, str]:
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}.", f"correct it, or remove the line: {path}") from error
    names = {field.name for field in fields(Settings)}
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
