"""Reports as tables of pandas, which is an extra: one column a field, with the field's name and unit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from aiocarbon._core.groups import GroupReport
from aiocarbon._core.report import Quantities, RunReport
from aiocarbon.errors import UsageError

if TYPE_CHECKING:
    import pandas

__all__ = ["frame"]

PARTS: Final = ("epochs", "devices", "spans", "nodes", "attempts")
"""Fields of a run that are tables of their own."""

NESTED: Final = {
    "location": ("zone", "name"),
    "pue": ("value", "source"),
    "overhead": ("cpu_s", "it_energy_kwh", "readings"),
}
"""Of what a run's field holds several facts of: those that are columns."""

LEFT_OUT: Final = frozenset({"rework", "prediction", "attribution", "identity", "schema"})
"""No values, though they may be None."""


def frame(runs: Sequence[RunReport], groups: Mapping[str, Sequence[GroupReport]], table: str) -> pandas.DataFrame:
    """A table.

    Args:
        runs: The runs.
        groups: Their total by what it is grouped by.
        table: "runs", a part of runs, or a key of `groups`.

    Raises:
        UsageError: There is no such table, or pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise UsageError("tables need pandas: pip install 'aiocarbon[pandas]'") from error
    if table == "runs":
        return pandas.DataFrame([dict(_row(run)) for run in runs])
    if table in PARTS:
        return pandas.DataFrame([row for run in runs for row in _parts(run, getattr(run, table))])
    if table in groups:
        return pandas.DataFrame([dict(_row(group)) for group in groups[table]])
    known = ", ".join(("runs", *PARTS, *groups))
    raise UsageError(f"there is no table {table!r}: expected one of {known}; load(..., by=) makes those of days")


def _parts(run: RunReport, parts: Iterable[Any]) -> Iterator[dict[str, Any]]:
    for part in parts:
        yield {"run_id": run.run_id, "run_name": run.name, **dict(_row(part))}


def _row(report: Any) -> Iterator[tuple[str, Any]]:
    """The fields that are one value each; shares by basis are columns of their own."""
    for field in dataclasses.fields(report):
        value = getattr(report, field.name)
        if field.name in LEFT_OUT:
            continue
        if field.name in NESTED:
            yield from ((f"{field.name}_{part}", getattr(value, part)) for part in NESTED[field.name])
        elif field.name == "basis_shares":
            yield from ((f"basis_share_{basis.value}", share) for basis, share in value.items())
        elif isinstance(value, Enum):
            yield field.name, value.value
        elif field.name in ("hosts", "warnings"):
            yield field.name, "; ".join(value)
        elif not isinstance(value, tuple | list | dict | Quantities) and not dataclasses.is_dataclass(value):
            yield field.name, value
