"""Which cloud this machine belongs to and in which of its regions, and where that region is.

Guarantees: no packet is sent unless the firmware's description (DMI, `/sys/class/dmi/id`) names a cloud whose metadata
is known here; no proxy is used; of what the metadata services hold, nothing but the region is asked for (Google's zone
comes with a project number, which is dropped); the waits add up to at most 0.3 s.

`place_of` blocks (a small file): call it in a worker thread.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from aiocarbon._core.intensity import Location
from aiocarbon.errors import IntensityError
from aiocarbon.intensity.dmi import regions
from aiocarbon.intensity.table import parse_zone

if TYPE_CHECKING:
    from aiocarbon.intensity.client import Client

__all__ = ["Region", "place_of", "region"]

LIMIT_S: Final = 0.3
"""The services are on the host itself and answer in milliseconds; only a container that cannot reach them waits."""

TOKEN_LIMIT_S: Final = 0.2
"""Amazon's share of it for the token; the region gets the rest."""

URLS: Final = {
    "aws": "http://169.254.169.254",
    "gcp": "http://metadata.google.internal",
    "azure": "http://169.254.169.254",
}

VARIABLES: Final = {
    "aws": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "gcp": ("GOOGLE_CLOUD_REGION", "CLOUDSDK_COMPUTE_REGION"),
    "azure": ("REGION_NAME",),
}
"""Asked only where the metadata does not answer (a container, whose packets may go no hop further) and the firmware
names the same cloud: a laptop with AWS_REGION set is not in that region."""

PATTERNS: Final = {
    "aws": "[a-z]{2,4}(-[a-z]{2,12}){1,3}-[0-9]{1,2}",
    "gcp": "[a-z]{2,16}(-[a-z]{2,16}){1,2}[0-9]{1,2}",
    "azure": "[a-z]{4,24}[0-9]{0,2}",
}
"""Shapes of regions: "us-gov-west-1", "northamerica-northeast2", "australiacentral2"."""

_GCP_ZONE: Final = f"projects/[^/]{{1,64}}/zones/({PATTERNS['gcp']})-[a-z0-9]{{1,5}}"


class Region(NamedTuple):
    """A region of a cloud.

    Attributes:
        provider: "aws", "gcp" or "azure".
        name: The provider's name of it: "eu-north-1".
        note: Who said so where it was not the metadata service; else empty.
    """

    provider: str
    name: str
    note: str = ""


async def region(client: Client, found: str | None, *, environ: Mapping[str, str] = os.environ) -> Region | None:
    """The region that this machine is in; sends nothing where `found` is no cloud with metadata.

    The services are asked together and the first answer that is a region counts: firmware strings are copied to where
    they do not belong (a nested guest), and waiting for one service after the other would take three times as long.

    Args:
        client: Asks; past any proxy.
        found: What `dmi.provider` says of this machine.
        environ: Where base URLs (`AIOCARBON_AWS_URL`, ...) and, failing the metadata, the region are looked up.

    Returns:
        The region, or None where neither the metadata nor the provider's environment variable says it.
    """
    if found not in URLS:
        return None
    return await _asked(client, environ) or _of_environment(found, environ)


def place_of(provider: str, region: str, note: str = "") -> Location | None:
    """Where a region is, by the bundled table.

    Args:
        provider: "aws", "gcp", "azure" or "ovh".
        region: The provider's name of the region.
        note: What a user should know of how it was found.

    Returns:
        The location, `how` "cloud", its `region` such as "aws eu-north-1"; None for a region the table lacks.
    """
    row = regions().get((provider, region))
    if row is None:
        return None
    return replace(
        parse_zone(row["zone"]),
        how="cloud",
        region=f"{provider} {region}",
        note="; ".join(filter(None, (note, row["note"]))),
    )


async def _asked(client: Client, environ: Mapping[str, str]) -> Region | None:
    # Here, where the client has loaded most of it: `provider` and `place_of` run while a tracker is entered.
    import anyio

    from aiocarbon.intensity.sources import access_of

    answers: list[Region] = []

    async with anyio.create_task_group() as group:

        async def ask(name: str, question: Callable[[Client, str], Awaitable[str]]) -> None:
            try:
                said = await question(client, access_of(name, URLS[name], environ).url)
            except IntensityError:
                return  # the usual case of two of the three: this is not their cloud
            if re.fullmatch(PATTERNS[name], said):
                answers.append(Region(name, said))
                group.cancel_scope.cancel()

        group.start_soon(ask, "aws", _aws)
        group.start_soon(ask, "gcp", _gcp)
        group.start_soon(ask, "azure", _azure)
    return answers[0] if answers else None


async def _aws(client: Client, url: str) -> str:
    """IMDSv2 (Amazon EC2 User Guide, "Use the Instance Metadata Service"); version 1 is often switched off."""
    ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    reply = await client.ask(
        "PUT", f"{url}/latest/api/token", source="aws", headers=ttl, direct=True, limit_s=TOKEN_LIMIT_S
    )
    token = _text(reply.body)
    if not re.fullmatch("[!-~]{1,512}", token):
        return ""
    reply = await client.ask(
        "GET",
        f"{url}/latest/meta-data/placement/region",
        source="aws",
        headers={"X-aws-ec2-metadata-token": token},
        direct=True,
        limit_s=LIMIT_S - TOKEN_LIMIT_S,
    )
    return _text(reply.body)


async def _gcp(client: Client, url: str) -> str:
    """Google's (Compute Engine documentation, "About VM metadata").

    Any other server lacks the flavor in its answer (google-auth, google/auth/compute_engine/_metadata.py `ping`).
    """
    reply = await client.ask(
        "GET",
        f"{url}/computeMetadata/v1/instance/zone",
        source="gcp",
        headers={"Metadata-Flavor": "Google"},
        direct=True,
        limit_s=LIMIT_S,
    )
    zone = re.fullmatch(_GCP_ZONE, _text(reply.body))
    return zone[1] if zone is not None and reply.headers.get("metadata-flavor") == "Google" else ""


async def _azure(client: Client, url: str) -> str:
    """Microsoft's (Azure documentation, "Azure Instance Metadata Service"); the one field, not the whole document."""
    reply = await client.ask(
        "GET",
        f"{url}/metadata/instance/compute/location",
        source="azure",
        params={"api-version": "2021-02-01", "format": "text"},
        headers={"Metadata": "true"},
        direct=True,
        limit_s=LIMIT_S,
    )
    return _text(reply.body).lower()


def _text(body: bytes) -> str:
    return body[:1024].decode("utf-8", "replace").strip()


def _of_environment(found: str, environ: Mapping[str, str]) -> Region | None:
    for variable in VARIABLES[found]:
        name = environ.get(variable, "").strip().lower()
        name = name.replace(" ", "") if found == "azure" else name  # "West Europe"
        if re.fullmatch(PATTERNS[found], name):
            return Region(found, name, f"by {variable}, the metadata service did not answer")
    return None
