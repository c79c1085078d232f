"""What the doctor looks at on any machine: Python, the packages, the disk."""

from __future__ import annotations

import platform
import shutil
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from limpet.errors import LimpetError
from limpet.home.doctor.findings import Finding, Status
from limpet.registry.cache import empty, needed, size_limit

__all__ = ["cache", "disk", "packages", "python"]

# what decides the bits of a result, and what holds the registry
_SHOWN = ("torch", "transformers", "peft", "safetensors", "sqlalchemy", "mlflow")
_LITTLE, _TOO_LITTLE = 1_000_000_000, 50_000_000
_UPDATE = "pip install --upgrade limpet"


def python() -> Iterator[Finding]:
    """Compare Python with what limpet asks for."""
    from packaging.specifiers import SpecifierSet

    asked, found = metadata.metadata("limpet")["Requires-Python"], platform.python_version()
    if SpecifierSet(asked).contains(found, prereleases=True):
        yield Finding("python", "ok", f"{found} (limpet {metadata.version('limpet')} asks for {asked})")
    else:
        yield Finding("python", "fail", f"{found}, and limpet asks for {asked}", f"install Python {asked}")


def packages() -> Iterator[Finding]:
    """Compare every package with what limpet asks for, without importing any; extras only where they are there."""
    from packaging.requirements import Requirement

    wrong: list[Finding] = []
    count = 0
    for line in metadata.requires("limpet") or ():
        asked = Requirement(line)
        extra = "extra" in line.partition(";")[2]
        if asked.marker is not None and not extra and not asked.marker.evaluate():
            continue
        found = _version(asked.name)
        if extra and (found is None or "'dev'" in str(asked.marker).replace('"', "'")):
            continue
        count += 1
        if found is None:
            wrong.append(Finding(asked.name, "fail", f"is not installed; limpet asks for {asked.specifier}", _UPDATE))
        elif not asked.specifier.contains(found, prereleases=True):
            status: Status = "warn" if extra else "fail"
            hint = f"pip install '{asked.name}{asked.specifier}'"
            wrong.append(Finding(asked.name, status, f"is {found}; limpet asks for {asked.specifier}", hint))
    shown = ", ".join(f"{name} {_version(name)}" for name in _SHOWN if _version(name))
    if not wrong:
        yield Finding("packages", "ok", f"{count} as asked for, among them {shown}")
    yield from wrong


def disk(folder: Path) -> Iterator[Finding]:
    """Say how much room is left where a folder is."""
    free = shutil.disk_usage(folder).free
    status: Status = "fail" if free < _TOO_LITTLE else "warn" if free < _LITTLE else "ok"
    hint = "" if status == "ok" else f"make room: df -h {folder}"
    yield Finding("free disk", status, f"{free / 1e9:.1f} GB in {folder}", hint)


def cache() -> Iterator[Finding]:
    """Say how large the cache is and may be, and whether it can be written."""
    report, limit = empty(), size_limit()
    try:
        with needed(report.folder):
            report.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=report.folder):
                pass
    except LimpetError as error:
        # slower without, and no reason to stop
        yield Finding("cache", "warn", error.message, error.hint)
        return
    hint = "limpet gc --cache" if report.bytes else ""
    yield Finding("cache", "ok", f"{report.bytes / 1e9:.1f} of {limit / 1e9:.1f} GB in {report.folder}", hint)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
