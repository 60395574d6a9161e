"""The registry of sources: which of them cover a place, in the order in which they are asked.

A source's module has `URL`, its base URL, and `bind(place, access)`, which gives the sources for a place, the finest
first; none where it does not cover it. It raises `SourceRefusedError` with a remedy where it would cover the place and
lacks something, a token say. A package adds a source by the entry-point group `aiocarbon.intensity`, whose entry is
such a module or any object with these two names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Final
from urllib.parse import urlsplit

from aiocarbon._core.intensity import Location
from aiocarbon._forks import FORKS
from aiocarbon.errors import ConfigError, IntensityError, SourceRefusedError
from aiocarbon.intensity.base import Access, Source

__all__ = ["REGISTRY", "Link", "access_of", "chain", "names"]

REGISTRY: Final = {
    "carbonintensity_gb": "aiocarbon.intensity.gb",
    "energidataservice": "aiocarbon.intensity.dk",
    "odre": "aiocarbon.intensity.odre",
    "energycharts": "aiocarbon.intensity.energycharts",
    "electricitymaps": "aiocarbon.intensity.electricitymaps",
    "watttime": "aiocarbon.intensity.watttime",
}
"""Name -> module, in the order in which sources that cover one place are asked: the grid operators' own first."""

ON_REQUEST: Final = frozenset({"watttime"})
"""Marginal intensity is no footprint: it is asked for only where the user names the source."""

GROUP: Final = "aiocarbon.intensity"
"""Entry points of plug-ins, asked before our own: who installs one wants it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One link of the chain.

    Attributes:
        name: The source's name in the registry.
        source: The source, bound to the place; None where it lacks something.
        why: What it lacks, in words with the remedy; empty where it is there.
    """

    name: str
    source: Source | None
    why: str = ""


def names() -> tuple[str, ...]:
    """All sources that can be named: ours and those of plug-ins."""
    return (*REGISTRY, *(name for name in _plugins() if name not in REGISTRY))


def access_of(name: str, default_url: str, environ: Mapping[str, str] = os.environ) -> Access:
    """How a source is reached: `AIOCARBON_<NAME>_URL` or its own base URL, and `AIOCARBON_<NAME>_TOKEN`.

    Raises:
        SourceRefusedError: The variable holds no URL.
    """
    variable = f"AIOCARBON_{name.upper()}_URL"
    url = environ.get(variable, "").strip() or default_url
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_url = False
    if not is_url:
        raise SourceRefusedError(
            f"{variable} holds no URL", source=name, remedy=f"export {variable}=https://... or unset it"
        )
    return Access(url=url.rstrip("/"), token=environ.get(f"AIOCARBON_{name.upper()}_TOKEN", "").strip())


def chain(place: Location, only: str | None = None, *, environ: Mapping[str, str] = os.environ) -> tuple[Link, ...]:
    """The sources that cover a place, in the order in which they are asked; loads modules, so call it in a worker.

    Args:
        place: Where the machine is.
        only: Name of a source that the user wants; the others of the place then stay behind it, as what is left.
        environ: Where base URLs and tokens are looked up.

    Raises:
        ConfigError: `only` is no source.
    """
    if only is not None and only not in names():
        raise ConfigError("intensity", only, f"a source among {', '.join(names())}")
    plugins = [name for name in _plugins() if name not in REGISTRY]
    usual = [*plugins, *(name for name in REGISTRY if name not in ON_REQUEST)]
    order = usual if only is None else [only, *(name for name in usual if name != only)]
    return tuple(link for name in order for link in _links(name, place, environ))


def _links(name: str, place: Location, environ: Mapping[str, str]) -> Iterator[Link]:
    try:
        module = _module(name)
        for source in module.bind(place, access_of(name, module.URL, environ)):
            yield Link(name=name, source=source)
    except IntensityError as error:
        yield Link(name=name, source=None, why=f"{error}. To mend it: {error.remedy}" if error.remedy else str(error))
    except Exception as error:  # a plug-in's own exception costs its values, not the engine
        yield Link(name=name, source=None, why=f"it failed to load: {type(error).__name__}: {error}")


def _module(name: str) -> Any:  # Any: a module or a plug-in's object, whose two names are looked up
    return import_module(REGISTRY[name]) if name in REGISTRY else _plugins()[name].load()


@cache
def _plugins() -> dict[str, Any]:
    with FORKS.kept_off():
        from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=GROUP)}
