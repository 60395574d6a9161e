"""Power usage effectiveness: the user's word, else a published figure of the cloud, else the chassis, else the average.

Only files that the firmware's description fills (DMI, `/sys/class/dmi/id`) are read; no packet is sent. Blocking: call
`find` in a worker thread.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Final

from aiocarbon import data
from aiocarbon._core.intensity import Pue
from aiocarbon.errors import ConfigError
from aiocarbon.intensity.dmi import DMI_ROOT, dmi, provider, published_pue

__all__ = ["find"]

CHASSIS: Final = {
    3: "desktop",
    4: "low profile desktop",
    5: "pizza box",
    6: "mini tower",
    7: "tower",
    8: "portable",
    9: "laptop",
    10: "notebook",
    11: "hand held",
    13: "all in one",
    14: "sub notebook",
    15: "space-saving desktop",
    16: "lunch box",
    24: "sealed-case PC",
    30: "tablet",
    31: "convertible",
    32: "detachable",
    35: "mini PC",
    36: "stick PC",
}
"""Chassis that stand in rooms without cooling and supply of their own (DMTF DSP0134, System Management BIOS Reference
Specification 3.7.0, section 7.4.1). Servers (17, 23, 28, 29) and what says nothing (1, 2) are not among them."""

HYPERVISORS: Final = (
    "qemu",
    "kvm",
    "openstack",
    "kubevirt",
    "red hat",
    "vmware",
    "innotek",
    "xen",
    "bochs",
    "parallels",
    "bhyve",
    "apple virtualization",
)
"""Beginnings of the vendor or product of virtual machines (systemd, src/basic/virt.c); their chassis is made up."""


def find(pue: float | None, *, dmi_root: Path = DMI_ROOT, platform: str = sys.platform, region: str = "") -> Pue:
    """Say by what factor the facility uses more energy than its IT equipment.

    Args:
        pue: What the user said, a ratio of at least 1; None to find it.
        dmi_root: Folder of the firmware's description.
        platform: `sys.platform`; a Mac is taken for a laptop or desktop.
        region: The cloud's region where it is known, as in `Location`: "aws eu-north-1".

    Returns:
        The ratio and who says so: "given", "AWS eu-north-1, 2024: ...", "AWS, 2025: ...", "chassis: laptop", or the
        average data centre's of the Uptime Institute (1.58, 2023), which is also what is assumed of a virtual machine
        outside the clouds known here.

    Raises:
        ConfigError: `pue` is not a number of at least 1.
    """
    if pue is not None:
        is_number = isinstance(pue, int | float) and not isinstance(pue, bool)
        if not is_number or not math.isfinite(pue) or pue < 1.0:
            raise ConfigError("pue", pue, "a ratio of at least 1")
        return Pue(value=float(pue), source="given")
    cloud = region.partition(" ")[0] or provider(dmi_root)
    rows = {row["id"]: row for row in data.rows("pue")}
    if cloud in rows:
        return _regional(rows[cloud], region) or _published(rows[cloud])
    chassis = "Mac" if platform == "darwin" else _chassis(dmi_root)
    if chassis is not None:
        return Pue(value=1.0, source=f"chassis: {chassis}")
    return _published(rows["default"])


def _regional(row: dict[str, str], region: str) -> Pue | None:
    published = published_pue(region)
    if published is None:
        return None
    value, year = published
    area = region.partition(" ")[2]
    return Pue(
        value=value,
        source=f"{row['name']} {area}, {year}: published, via the Green Software Foundation's real-time-cloud",
    )


def _published(row: dict[str, str]) -> Pue:
    note = f" ({row['note']})" if row["note"] else ""
    return Pue(value=float(row["pue"]), source=f"{row['name']}, {row['year']}: {row['source']}{note}")


def _chassis(root: Path) -> str | None:
    vendor, product = dmi(root, "sys_vendor"), dmi(root, "product_name")
    is_guest = any(text.lower().startswith(HYPERVISORS) for text in (vendor, product))
    # A Hyper-V guest on a server says chassis 3, desktop.
    if is_guest or (vendor == "Microsoft Corporation" and product == "Virtual Machine"):
        return None
    code = dmi(root, "chassis_type")
    return CHASSIS.get(int(code)) if code.isascii() and code.isdigit() else None
