from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.errors import LimpetError, UsageError
from limpet.registry.settings import Settings, load_settings, write_settings


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BASE", "DB", "BLOBS", "MLFLOW", "CACHE"):
        monkeypatch.delenv(f"LIMPET_{name}", raising=False)


def test_flag_wins_over_environment_over_file_over_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings(tmp_path).base is None
    write_settings(tmp_path, Settings(base="from-file"))
    assert load_settings(tmp_path).base == "from-file"
    monkeypatch.setenv("LIMPET_BASE", "from-environment")
    assert load_settings(tmp_path).base == "from-environment"
    assert load_settings(tmp_path, base="from-flag").base == "from-flag"
    assert load_settings(tmp_path, base=None).base == "from-environment"


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1))
def test_every_text_survives_the_file(tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    folder = tmp_path_factory.mktemp("home")
    write_settings(folder, Settings(base=value, mlflow="off"))
    loaded = load_settings(folder)
    assert (loaded.base, loaded.mlflow, loaded.db) == (value, "off", None)


@pytest.mark.parametrize(
    ("content", "said"), [("bas = 'x'", "'bas'"), ("base = 3", "not a text"), ("base = ", "not TOML")]
)
def test_a_wrong_file_is_refused_with_what_is_wrong(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "limpet.toml").write_text(content)
    with pytest.raises(UsageError, match=said):
        load_settings(tmp_path)


def test_tables_of_other_parts_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "limpet.toml").write_text("base = 'x'\n[gate]\nmax_forgetting = 0.1\n")
    assert load_settings(tmp_path).base == "x"


def test_unknown_flag_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'colour'"):
        load_settings(tmp_path, colour="red")


def test_cache_follows_xdg_and_limpet_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert load_settings(tmp_path).cache == tmp_path / "xdg" / "limpet"
    monkeypatch.setenv("LIMPET_CACHE", str(tmp_path / "own"))
    assert load_settings(tmp_path).cache == tmp_path / "own"


@pytest.mark.parametrize(
    ("folder", "db", "mode"),
    [
        (0o700, None, 0o600),
        (0o755, None, 0o644),
        (0o2770, None, 0o640),
        (0o700, "postgresql://me:secret@host/limpet", 0o600),
        # others may look into the folder, and have no business with the password
        (0o755, "postgresql://me:secret@host/limpet", 0o600),
        (0o755, "postgresql://host/limpet?password=secret", 0o600),
        (0o2775, "postgresql://me:secret@host/limpet", 0o640),
    ],
)
def test_the_settings_are_readable_by_whom_the_home_is_shared_with(
    tmp_path: Path, folder: int, db: str | None, mode: int
) -> None:
    tmp_path.chmod(folder)
    write_settings(tmp_path, Settings(db=db))
    assert (tmp_path / "limpet.toml").stat().st_mode & 0o777 == mode


def test_no_repr_shows_a_password() -> None:
    secret = "postgresql://me:hunter2@host/limpet"
    assert "hunter2" not in repr(Settings(db=secret, blobs=secret, mlflow=secret))


def test_what_is_no_file_of_settings_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "limpet.toml"
    # nobody writes to it: whoever opens it by the ordinary way waits for ever
    os.mkfifo(file)
    with pytest.raises(UsageError, match="no file of settings"):
        load_settings(tmp_path)
    file.unlink()
    file.write_text("# " + "x" * 2_000_000)
    with pytest.raises(UsageError, match="larger than"):
        load_settings(tmp_path)


def test_a_setting_that_is_no_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMPET_BASE", "caf\udce9")
    with pytest.raises(UsageError, match="not UTF-8"):
        load_settings(tmp_path)


def test_a_folder_that_is_none_gives_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LimpetError):
        write_settings(tmp_path / "file", Settings())
