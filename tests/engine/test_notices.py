"""What a run is told of a meter that could not be opened."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from aiocarbon._core.reading import Part
from aiocarbon._engine.bank import Entry
from aiocarbon._engine.notices import tell_of
from aiocarbon.errors import MeterError, MeterPermissionError, MeterUnavailableError
from aiocarbon.testing import ScriptedMeter


def told(error: MeterError, *, is_asked_for: bool = False) -> list[str]:
    warnings: list[str] = []
    session: Any = SimpleNamespace(warn=warnings.append, missing=set())
    tell_of(session, Entry(spec="nvml", error=error), is_asked_for=is_asked_for)
    return warnings


@pytest.mark.parametrize(
    ("error", "is_told"),
    [
        (MeterUnavailableError("no driver"), False),
        (MeterUnavailableError("all are hidden by mistake", is_warning=True), True),
        (MeterPermissionError("root's own"), True),
    ],
)
def test_a_meter_that_nobody_named_is_told_only_where_it_should_be_there(error: MeterError, is_told: bool) -> None:
    assert told(error) == ([f"nvml: {error}"] if is_told else [])
    assert told(error, is_asked_for=True) == [f"nvml: {error}"]


def test_gpus_are_missing_while_their_driver_does_not_answer_and_not_once_it_has() -> None:
    session: Any = SimpleNamespace(warn=str, missing=set())
    entry = Entry(spec="nvml")
    tell_of(session, entry, is_asked_for=False)
    assert session.missing == {Part.GPU}
    entry.error = MeterPermissionError("root's own")
    tell_of(session, entry, is_asked_for=False)
    assert session.missing == {Part.GPU}
    entry.error = MeterUnavailableError("no GPU after all")
    tell_of(session, entry, is_asked_for=False)
    assert session.missing == set()
    for other in (Entry(spec="hwmon"), Entry(spec="nvml", meter=ScriptedMeter(energy_uj=[0]))):
        tell_of(session, other, is_asked_for=False)
        assert session.missing == set()
