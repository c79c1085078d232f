"""How a home is made, and how it is opened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from limpet.home.context import base_is_here, describe_base
from limpet.home.home import Home
from limpet.home.public import public_function
from limpet.registry.records import bases
from limpet.registry.settings import DEFAULT_BASE, SETTINGS_FILE, load_settings
from limpet.registry.store import HOME_FOLDER, adopt_store, check_free, find_home, new_store, open_store
from limpet.training.base.holding.recipes import with_recipe

if TYPE_CHECKING:
    from limpet.training.progress import Progress

__all__ = ["HomeSettings", "init", "open_home"]


class HomeSettings(TypedDict, total=False):
    """The settings of a home, over the environment and `limpet.toml`; null is as good as left out.

    `base` is a base SPEC, `dtype` what its weights are held in (`auto`: as its files are), `quantize` is `nf4` or
    `int8`, `db` a database URL, `blobs` an fsspec URL, `mlflow` a tracking URI or `off`.
    """

    base: str | None
    dtype: str | None
    quantize: str | None
    db: str | None
    blobs: str | None
    mlflow: str | None


@public_function("limpet.init")
def init(
    path: str | Path | None = None,
    *,
    adopt: bool = False,
    progress: Progress | None = None,
    **settings: Unpack[HomeSettings],
) -> Home:
    """Make a home and open it; what fails leaves nothing.

    Args:
        path: The folder; by default `.limpet` here.
        adopt: Take a blob store that is not empty, or is another home's, for this home's own; also of a home that
            there is already, if nothing else is given.
        progress: Receives what goes on.
        **settings: See `HomeSettings`. A `base` is fetched and fingerprinted at once; by default it is
            `sample:minilm`, which is fingerprinted at once if it is on this machine, and else fetched when first
            needed. `db` is by default SQLite in the home, `blobs` a folder in
            it, `mlflow` SQLite in it.

    Raises:
        ConflictError: There is a home already; or the database has an older schema, or is another program's or
            another home's; or the blob store is not empty or another home's.
    """
    folder = Path(path) if path else Path.cwd() / HOME_FOLDER
    held = {"dtype": settings.pop("dtype", None), "quantize": settings.pop("quantize", None)}
    if any(held.values()):
        named = settings.get("base") or load_settings(folder).base or DEFAULT_BASE
        settings = {**settings, "base": with_recipe(named, **held)}
    loaded = load_settings(folder, **settings)
    if adopt and not any(value is not None for value in settings.values()) and (folder / SETTINGS_FILE).is_file():
        return Home(adopt_store(folder))
    check_free(folder)
    base = loaded.base or DEFAULT_BASE
    # before a home is made for it: a base that can't be one leaves nothing
    known = settings.get("base") is not None or base_is_here(base)
    record = describe_base(base, progress) if known else None
    with new_store(folder, replace(loaded, base=base), adopt=adopt) as store:
        if record is not None:
            bases.add(store, record)
    return Home(store)


@public_function("limpet.open")
def open_home(path: str | Path | None = None, **settings: Unpack[HomeSettings]) -> Home:
    """Open a home: the one at `path`, else at `LIMPET_HOME`, else the nearest `.limpet/` upward.

    Args:
        path: The home's folder, or the one in which its `.limpet/` lies.
        **settings: See `HomeSettings`.

    Raises:
        NotFoundError: There is no home.
    """
    return Home(open_store(find_home(Path.cwd(), Path(path) if path else None), **settings))
