"""Journals in which one value is not what it should be: a line is left out and told, or the value does no harm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiocarbon import sync
from aiocarbon.cli.options import make_parser
from aiocarbon.cli.report_cmd import _text
from aiocarbon.cli.report_options import report_options
from aiocarbon.cli.report_outputs import OUTPUTS
from aiocarbon.journal import load, records
from aiocarbon.journal.prior import epochs_done, prior_of
from aiocarbon.journal.refresh import SIDECAR_SCHEMA, sidecar_of

ASKED = report_options(make_parser().parse_args(["report", "x"]))
HUGE = 10**400
ODD = [
    *(None, True, False, "", "x", "12", "\x1b[31m", "n[1-99999999]", [], {}, [[]], [1, 2], {"0": []}),
    *(0, 1, -1, -0.5, 1.5, 1e-320, 1e17, 1e308, -1e308, float("nan"), float("inf")),
    *(10**18, -(10**18), 2**62, 10**30, HUGE),
]  # fmt: skip
"""What JSON may hold, and Python's more than JSON: a journal is read by Python."""


def sound(folder: Path) -> list[dict[str, Any]]:
    """The records of a run with epochs, spans, a child and predictions, and one of each kind that it has not."""
    with sync.Tracker(name="x", run_id="r", meters="simulated:250", location="DK", epochs=3, journal=folder) as tracker:
        child = tracker.child("actor")
        for _ in range(2):
            with tracker.epoch(), tracker.span("roll", actor=1):
                tracker.step(2, total=4)
                with child.epoch(), child.span("turn"):
                    child.step()
    (file,) = folder.rglob("*.jsonl")
    found = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    header, wall_s = found[0], found[0]["wall_ns"] / 1e9
    value = next(record["value"] for record in found if record.get("k") == "intensity")
    more = [
        {"k": "place", "location": header["location"], "pue": header["pue"]},
        {"k": "wall", "t": header["t"] + 10**6, "wall_ns": header["wall_ns"] + 10**9},
        {"k": "intensity", "from_s": wall_s, "value": value | {"valid_from_s": wall_s}, "void_to_s": wall_s + 60.0},
        {"k": "ahead", "at_s": wall_s, "until_s": wall_s + 3600.0, "steps": [[wall_s, 100.0]], "source": "s",
         "zone": "DK", "kind": "average", "factor_basis": "direct"},
        {"k": "prediction", "at_s": wall_s, "epochs": 3, "seen": 1, "kwh": [1, 1, 1], "g": None, "s": [9, 8, 10]},
        {"k": "warning", "t": header["t"], "text": "be warned"},
    ]  # fmt: skip
    return [*found[:2], *more, *found[2:]]


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to all values inside one."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*path, key)
            yield from places(inner, (*path, key))


def changed(record: dict[str, Any], path: tuple[Any, ...], odd: object) -> dict[str, Any]:
    copy: Any = json.loads(json.dumps(record))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = odd
    assert isinstance(copy, dict)
    return copy


def put(folder: Path, found: list[dict[str, Any]]) -> Path:
    file = folder / "run" / "a.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(record) + "\n" for record in found))
    return file


def put_beside(folder: Path, found: list[dict[str, Any]]) -> None:
    other = put(folder / "other", [found[0] | {"run_id": "other"}, *found[1:]])
    assert load(other).problems == ()


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} in JSON")


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return sound(tmp_path_factory.mktemp("sound"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged")


@settings(max_examples=150, deadline=None)
@given(data=st.data(), odd=st.sampled_from(ODD))
def test_one_odd_value_anywhere_raises_nothing_but_what_is_told(
    journal: list[dict[str, Any]], folder: Path, data: st.DataObject, odd: object
) -> None:
    n = data.draw(st.integers(0, len(journal) - 1))
    path = data.draw(st.sampled_from(list(places(journal[n]))))
    file = put(folder, [*journal[:n], changed(journal[n], path, odd), *journal[n + 1 :]])
    if n == 0:  # a first line that is none is told too, and there is nothing else
        put_beside(folder, journal)
    loaded = load(folder)
    assert all(str(file) in problem for problem in loaded.problems)
    assert _text(loaded, ASKED)
    for name, output in OUTPUTS.items():
        text = "".join(output.make(loaded, ASKED))
        if name == "json":
            json.loads(text, parse_constant=refuse)


LEFT_OUT = [
    ("place", ("pue", "value"), HUGE),
    ("place", ("pue", "value"), 1e308),
    ("place", ("location",), []),
    ("device", ("high_factor",), 1e308),
    ("device", ("max_power_w",), "300"),
    ("epoch", ("i",), -1),
    ("epoch", ("steps",), -1),
    ("mark", ("t",), 10**18 + 10**17),
    ("wall", ("t",), 10**30),
    ("intensity", ("from_s",), "now"),
    ("intensity", ("void_to_s",), HUGE),
    ("spans", ("t",), 10**30),
    ("spans", ("t",), 2**62),
    ("spans", ("names", 0, 3), -1.0),
    ("spans", ("names", 0, 1), 1.5),
    ("spans", ("dropped",), "none"),
    ("child", ("s",), -1.0),
    ("child", ("i",), -1),
    ("child", ("steps",), HUGE),
    ("prediction", ("seen",), HUGE),
    ("prediction", ("kwh", 0), "1"),
    ("prediction", ("at_s",), 1e18),
]


@pytest.mark.parametrize(("kind", "path", "odd"), LEFT_OUT, ids=lambda value: str(value)[:30])
def test_a_line_with_what_cannot_be_is_left_out_and_told(
    journal: list[dict[str, Any]], tmp_path: Path, kind: str, path: tuple[Any, ...], odd: object
) -> None:
    # The last of its kind, which has whatever the kind can have, once more: what was sound before stays.
    n = max(i for i, record in enumerate(journal) if record.get("k") == kind)
    whole = load(put(tmp_path, journal)).runs
    file = put(tmp_path, [*journal[:-1], changed(journal[n], path, odd), journal[-1]])
    loaded = load(file)
    assert loaded.problems == (f"1 line of {file} could not be read: {len(journal)}",)
    assert loaded.runs == whole


@pytest.mark.parametrize("odd", [HUGE, 1e400, float("nan"), "1", [], None, 1e308], ids=lambda odd: str(odd)[:10])
@pytest.mark.parametrize("path", [("overhead", "cpu_s"), ("overhead", "missed_ticks"), ("overhead", "it_energy_kwh"),
                                  ("scope", "missing"), ("co2eq_g_before",), ("overhead",), ("scope",)])  # fmt: skip
def test_of_a_damaged_end_the_sound_rest_counts(
    journal: list[dict[str, Any]], tmp_path: Path, path: tuple[str, ...], odd: object
) -> None:
    (whole,) = load(put(tmp_path, journal)).runs
    (run,) = load(put(tmp_path, [*journal[:-1], changed(journal[-1], ("report", *path), odd)])).runs
    assert run.energy_kwh == whole.energy_kwh
    json.dumps(run.to_dict(), allow_nan=False)


def test_of_many_bad_lines_the_first_are_told_by_their_numbers(journal: list[dict[str, Any]], tmp_path: Path) -> None:
    file = put(tmp_path, [journal[0], *({"k": "tick"} for _ in range(10)), *journal[1:]])
    (problem,) = load(file).problems
    assert problem == f"10 lines of {file} could not be read: 2, 3, 4, 5, 6, 7, 8, 9, ..."


def test_a_date_far_ahead_takes_no_longer_than_others(journal: list[dict[str, Any]], tmp_path: Path) -> None:
    n = max(i for i, record in enumerate(journal) if record.get("k") == "mark")
    file = put(tmp_path, [*journal[:n], changed(journal[n], ("t",), 2**62), *journal[n + 1 :]])
    loaded = load(file, by="day")
    assert len(loaded.groups["day"]) <= 2  # today, and tomorrow at midnight
    assert loaded.problems


@pytest.mark.parametrize("odd", [HUGE, 1e400, "x", [], -1], ids=lambda odd: str(odd)[:10])
def test_what_earlier_runs_tell_of_the_next_one_is_sound_or_nothing(
    journal: list[dict[str, Any]], tmp_path: Path, odd: object
) -> None:
    end = journal[-1] | {"rate": {"epochs": 2, "epoch_s": odd, "power_w": odd}}
    file = put(tmp_path, [*journal[:-1], {"k": "epoch", "i": odd, "partial": False}, end])
    file.write_text(file.read_text().replace('{"k": "epoch"', '{"k":"epoch"'))
    assert prior_of(tmp_path, "x") is None
    assert epochs_done(file.parent) <= 2


@pytest.mark.parametrize("odd", [HUGE, "x", [], None], ids=lambda odd: str(odd)[:10])
def test_a_damaged_sidecar_is_left_out_and_told(journal: list[dict[str, Any]], tmp_path: Path, odd: object) -> None:
    file = put(tmp_path, journal)
    whole = load(file).runs
    found = next(record for record in journal if record.get("void_to_s"))
    ident = "/".join(str(journal[0][key]) for key in ("run_id", "host", "boot_id", "pid", "t"))
    header = {"schema": SIDECAR_SCHEMA, "ident": ident, "lines": 1}
    lines = [records.line(header), records.line(found | {"asked_s": odd})]
    sidecar_of(file).write_text("".join(lines))
    loaded = load(file)
    assert str(sidecar_of(file)) in loaded.problems[0]
    assert loaded.runs == whole
