"""The country this machine's address is in, where two services that know nothing of each other say the same.

Guarantees: only HTTPS (or a base URL of the user's on this machine); nothing but the country and, where both name the
same one, the state is kept: the address, the city and the coordinates that the services send along are dropped here.
One service alone is never believed: an exit of a VPN, a company or a cloud in another country is known to some and not
to others, and a wrong country is the largest error of the whole chain.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiocarbon import data
from aiocarbon._core.intensity import Location
from aiocarbon.errors import ConfigError, IntensityError, SourceDownError, SourceRefusedError
from aiocarbon.intensity.base import Access
from aiocarbon.intensity.sources import access_of
from aiocarbon.intensity.table import WORLD, parse_zone

if TYPE_CHECKING:
    from aiocarbon.intensity.client import Client

__all__ = ["Found", "asked", "country"]

LIMIT_S: Final = 3.0


class _Service(NamedTuple):
    """A service: how it is reached, and under which names it sends the country and the state."""

    name: str
    title: str
    url: str
    path: str
    country: str
    region: str


SERVICES: Final = (
    _Service("geojs", "geojs.io", "https://get.geojs.io", "/v1/ip/geo.json", "country_code", "region"),
    _Service("ipinfo", "ipinfo.io", "https://ipinfo.io", "/json", "country", "region"),
)
"""Two that need no key (jloh/geojs, README; https://ipinfo.io/developers)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the services said.

    Attributes:
        place: Where they agree this machine is; None where they do not, or one did not answer.
        why: What each said or why not, in words: "geojs.io says DK, ipinfo.io says SE".
        has_failed: True if one named no country: asked later, it may.
    """

    place: Location | None
    why: str
    has_failed: bool = False


class _Said(NamedTuple):
    """The answer of one service: a country with a state, or neither and why."""

    country: str
    region: str
    why: str


async def country(client: Client, environ: Mapping[str, str] = os.environ, *, limit_s: float = LIMIT_S) -> Found:
    """Ask both services at once; the bundled tables are read before (by `location.find`) or here.

    Args:
        client: Asks; by the user's proxy, if there is one.
        environ: Where base URLs (`AIOCARBON_GEOJS_URL`, `AIOCARBON_IPINFO_URL`) and `AIOCARBON_IPINFO_TOKEN`, which is
            optional, are looked up.
        limit_s: Longest wait, seconds.

    Returns:
        The place, if both agree, and why.
    """
    import anyio

    said: dict[str, _Said] = {}

    async def ask(service: _Service) -> None:
        said[service.name] = await _said(client, service, environ, limit_s)

    async with anyio.create_task_group() as group:
        for service in SERVICES:
            group.start_soon(ask, service)
    answers = [said[service.name] for service in SERVICES]
    why = ", ".join(answer.why for answer in answers)
    first = answers[0]
    if not first.country or any(answer.country != first.country for answer in answers):
        return Found(place=None, why=why, has_failed=not all(answer.country for answer in answers))
    place = parse_zone(_state(first.country, {answer.region for answer in answers}) or first.country)
    note = f"two services agreed: {', '.join(service.title for service in SERVICES)}"
    return Found(place=replace(place, how="geolocation", note=note), why=why)


def asked(environ: Mapping[str, str] = os.environ) -> str:
    """A short text that differs where other base URLs would be asked; nothing of them can be read in it."""
    variables = (f"AIOCARBON_{service.name.upper()}_URL" for service in SERVICES)
    urls = "\n".join(environ.get(variable, "").strip() for variable in variables)
    return hashlib.sha256(urls.encode()).hexdigest()[:16]


async def _said(client: Client, service: _Service, environ: Mapping[str, str], limit_s: float) -> _Said:
    try:
        access = access_of(service.name, service.url, environ)
        body = await client.json(
            f"{access.url}{service.path}", source=service.name, headers=_headers(access), limit_s=limit_s
        )
    except (SourceDownError, SourceRefusedError) as error:
        # With a status, the message holds what was answered, in which this machine's address may stand.
        return _Said(
            "", "", f"{service.title} answered {error.status}" if error.status else f"{service.title}: {error}"
        )
    except IntensityError as error:
        return _Said("", "", f"{service.title}: {error}")
    return _read(service, body)


def _headers(access: Access) -> dict[str, str]:
    return {"Authorization": f"Bearer {access.token}"} if access.token else {}


def _read(service: _Service, body: Any) -> _Said:
    """What a decoded answer says of the country, and of the state if it says that too."""
    code = body.get(service.country) if isinstance(body, dict) and not body.get("error") else None
    if not _is_country(code):
        return _Said("", "", f"{service.title} says no country")
    region = body.get(service.region)
    return _Said(
        str(code), region.strip().casefold() if isinstance(region, str) else "", f"{service.title} says {code}"
    )


def _is_country(code: object) -> bool:
    """Whether it is ISO 3166-1 alpha-2 in upper case, as both services document it."""
    if not (isinstance(code, str) and len(code) == 2 and code.isascii() and code.isupper()):
        return False
    try:
        return parse_zone(code).zone == code != WORLD
    except ConfigError:
        return False


def _state(country: str, regions: set[str]) -> str:
    """The code of the state that all name; empty where they do not, or where the bundled tables have no such state."""
    if len(regions) != 1:
        return ""
    (region,) = regions
    rows = (row for row in data.rows("subdivisions") if row["country"] == country and row["code"].startswith(country))
    return next((row["code"] for row in rows if row["name"].casefold() == region), "")
