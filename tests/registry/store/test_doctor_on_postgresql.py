"""The doctor on a home whose registry is on a PostgreSQL server."""

from __future__ import annotations

from pathlib import Path

from limpet.home.doctor.examine import examine
from limpet.registry.settings import Settings, write_settings
from tests.registry.homes import stock


def test_a_home_on_postgresql_is_looked_at(postgres_url: str, tmp_path: Path) -> None:
    stock(tmp_path / "home", postgres_url).database.close()
    write_settings(tmp_path / "home", Settings(db=postgres_url, mlflow="off"))
    found = {finding.name: finding for finding in examine(tmp_path / "home")}
    assert found["database"].detail.startswith("PostgreSQL ")
    assert found["schema"].status == "ok"
    # the invented sample is the only thing that is wrong
    assert [name for name, finding in found.items() if finding.status == "fail"] == ["base sample:tiny"]
