"""Which cloud this machine belongs to, by its firmware's description; what is published of a cloud's regions.

Small files are read, no packet is sent. Blocking: call in a worker thread.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from aiocarbon import data

__all__ = ["DMI_ROOT", "dmi", "provider", "published_pue", "regions"]

DMI_ROOT: Final = Path("/sys/class/dmi/id")

AZURE_ASSET_TAG: Final = "7783-7084-3265-9085-8269-3286-77"
"""Chassis asset tag of every Azure machine (cloud-init, cloudinit/sources/azure/identity.py); the vendor alone is also
that of a Surface laptop or any Hyper-V guest."""


def provider(dmi_root: Path = DMI_ROOT) -> str | None:
    """The cloud this machine belongs to, by the strings that cloud-init looks for.

    Args:
        dmi_root: Folder of the firmware's description.

    Returns:
        "aws", "gcp", "azure", "alibaba" or "oracle"; None for any other machine.
    """
    vendor, product, asset_tag = (dmi(dmi_root, name) for name in ("sys_vendor", "product_name", "chassis_asset_tag"))
    # Older instances are Xen guests whose firmware calls itself "4.11.amazon".
    if vendor == "Amazon EC2" or (vendor == "Xen" and "amazon" in dmi(dmi_root, "bios_version").lower()):
        return "aws"
    if product == "Google Compute Engine":  # the vendor "Google" alone would also be a Chromebook's
        return "gcp"
    if vendor == "Microsoft Corporation" and asset_tag == AZURE_ASSET_TAG:
        return "azure"
    if vendor == "Alibaba Cloud" or product.startswith("Alibaba Cloud"):
        return "alibaba"
    if asset_tag == "OracleCloud.com":
        return "oracle"
    return None


def dmi(root: Path, name: str) -> str:
    """One string of the firmware's description; empty where it is missing or closed to this user."""
    try:
        return (root / name).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def published_pue(region: str) -> tuple[float, str] | None:
    """A region's own PUE and its year, where the bundled table has one; `region` as in `Location`: "aws eu-north-1"."""
    name, _, area = region.partition(" ")
    row = regions().get((name, area))
    return (float(row["pue"]), row["pue_year"]) if row is not None and row["pue"] else None


@cache
def regions() -> dict[tuple[str, str], dict[str, str]]:
    """Rows of the bundled table by provider and region."""
    return {(row["provider"], row["region"]): row for row in data.rows("cloud_regions")}
