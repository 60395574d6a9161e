"""Accelerators by the names that people and drivers give them: their specified power and peak rates."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Final

from aiocarbon import data

__all__ = ["PRECISIONS", "Accelerator", "Lookup", "accelerators", "find"]

PRECISIONS: Final = ("bf16", "fp16", "fp8", "tf32", "fp32")
"""Number formats of the table; trainings run mostly in the first two."""

DEFAULTS: Final = ("bf16", "fp16", "fp32")
"""The first of these of which a rate is known counts where no format is named."""

FLOP_PER_TFLOP: Final = 1e12

_NOISE: Final = frozenset({"nvidia", "amd", "google", "intel", "aws", "tesla", "geforce", "instinct", "gpu"})
"""Words that tell no two accelerators of the table apart."""

_MEMORY: Final = re.compile(r"[0-9]+gb|hbm[0-9]e?|gddr[0-9]x?")
"""How drivers name the memory: it tells the two A100 PCIe apart and no others."""

MOST_NEAR: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """An accelerator as its vendor specifies it.

    Attributes:
        name: "NVIDIA A100 SXM4".
        power_w: Specified power, watts; None where the vendor publishes none.
        power_term: What the vendor calls that power: "maximum TDP", "peak board power".
        peak_flop_per_s: Peak rate of dense matrix operations by number format, FLOP/s; formats without a figure lack.
        source: Who quotes the vendor, and when that was read: "gpu-specs; lightning, read in 2026".
        address: The vendor's page.
        note: What a user should know; empty if nothing.
    """

    name: str
    power_w: float | None
    power_term: str
    peak_flop_per_s: dict[str, float]
    source: str
    address: str
    note: str = ""

    @property
    def precision(self) -> str:
        """The number format that counts where none is named."""
        return next(name for name in DEFAULTS if name in self.peak_flop_per_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """What is known of a name.

    Attributes:
        found: The one accelerator of that name; None if there is none, or more than one.
        candidates: All accelerators that the name fits, if there is more than one: "A100" fits three.
        near: Names that are like it, if it fits none.
    """

    found: Accelerator | None = None
    candidates: tuple[str, ...] = ()
    near: tuple[str, ...] = ()


def find(name: str) -> Lookup:
    """Look up a name; a blocking read the first time.

    Args:
        name: As a person ("v100s", "A100 SXM") or a driver ("NVIDIA A100-SXM4-80GB", "Tesla T4") writes it.
    """
    wanted = _words(name)
    rows = [(_words(row.name), row) for row in accelerators()]
    # With the memory's size first: it is dropped where no name of the table has it.
    for words in (wanted, {word for word in wanted if not _MEMORY.fullmatch(word)}):
        # A model has a number in its name: "RTX" or "80GB" alone names none, though they may fit one row only.
        is_model = any(re.search("[0-9]", word) and not _MEMORY.fullmatch(word) for word in words)
        fits = [(its, row) for its, row in rows if is_model and words <= its]
        exact = [row for its, row in fits if its == words]
        if len(fits) == 1 or len(exact) == 1:
            return Lookup(found=exact[0] if exact else fits[0][1])
        if fits:
            return Lookup(candidates=tuple(row.name for _, row in fits))
    return Lookup(near=_near(name))


@cache
def accelerators() -> tuple[Accelerator, ...]:
    """All of the bundled table, in its order; a blocking read the first time."""
    return tuple(_parsed(row) for row in data.rows("accelerators"))


def _parsed(row: dict[str, str]) -> Accelerator:
    return Accelerator(
        name=row["name"],
        power_w=float(row["power_w"]) if row["power_w"] else None,
        power_term=row["power_term"],
        peak_flop_per_s={name: round(float(row[name]) * FLOP_PER_TFLOP) for name in PRECISIONS if row[name]},
        source=f"{row['read_in']}, read in {row['year']}",
        address=row["address"],
        note=row["note"],
    )


def _words(name: str) -> set[str]:
    words = set(re.findall("[a-z0-9]+", name.lower()))
    return {re.sub("sxm[0-9]", "sxm", word) for word in words} - _NOISE


def _near(name: str) -> tuple[str, ...]:
    import difflib  # only on the way to an error

    short = {" ".join(word for word in row.name.lower().split() if word not in _NOISE): row for row in accelerators()}
    wanted = " ".join(word for word in re.findall("[a-z0-9]+", name.lower()) if word not in _NOISE)
    near = difflib.get_close_matches(wanted, short, n=MOST_NEAR, cutoff=0.4)
    return tuple(short[key].name for key in near)
