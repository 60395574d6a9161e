"""The benchmarks run, tell a miss from a success, and know the truth; what they measure is judged by running them."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import benchmarks
from benchmarks import accuracy, one_reader, spans, truth
from benchmarks.__main__ import NAMES, main
from benchmarks.accuracy import Case, Comparison
from benchmarks.result import ChildError, Result, Row, at_most, child, info, skipped

S = 1_000_000_000
CASE = Case(name="one", text=accuracy._gpu("wave 0 const 100"))


def window(joules: float, *, low: float = 0.95, high: float = 1.05, duration_s: float = 3.0) -> dict:
    kwh = joules / 3.6e6
    return {"duration_s": duration_s, "coverage": 1.0, "kwh": kwh, "low_kwh": kwh * low, "high_kwh": kwh * high}


def compare(run_j: float, *epochs_j: float, case: Case = CASE, duration_s: float = 9.0, **band: float) -> list[Row]:
    epochs = [window(j, **band) for j in epochs_j]
    heard = {
        "entering_ns": S - S // 10,
        "entered_ns": S + S // 10,
        "end_ns": 10 * S,
        "marks": [(1 + 3 * (i + 1)) * S for i in range(len(epochs_j))],
        "run": window(run_j, duration_s=duration_s, **band),
        "epochs": epochs,
        "at_once": epochs,
        "warnings": [],
    }
    return Comparison(case, truth.parse(case.text), 0, heard, None).rows()


def test_a_figure_that_is_not_finite_keeps_no_limit() -> None:
    assert [at_most("m", value, "ms", 1.0).ok for value in (0.0, 1.0, 1.1, math.nan, math.inf)] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_an_exact_report_has_no_error() -> None:
    run, epoch, _, outside, coverage, begin = compare(900.0, 300.0, 300.0)
    assert (run.value, epoch.value, outside.value) == pytest.approx((0.0, 0.0, 0.0), abs=1e-9)
    assert run.ok
    assert epoch.ok
    assert coverage.ok
    assert begin.ok


def test_a_run_that_says_another_length_than_it_had_is_found() -> None:
    assert compare(700.0, 300.0, duration_s=7.0)[-1].ok is False  # right for 7 s, and it was entered 9 s ago
    assert compare(1000.0, 300.0, duration_s=10.0)[-1].ok is False


def test_a_case_that_fails_loses_no_other() -> None:
    def fails() -> list[Row]:
        raise ChildError("a child ended with 1:\nit died")

    (row,) = accuracy.told(CASE, fails)
    assert (row.value, row.ok, row.note) == (None, False, "failed: it died")
    assert accuracy.told(CASE, lambda: [info("m", 1.0, "%")])[0].value == 1.0


def test_a_wrong_run_and_a_wrong_epoch_are_found() -> None:
    run, epoch, *_ = compare(901.0, 300.0, 302.0)
    assert run.value == pytest.approx(100 / 900)
    assert epoch.value == pytest.approx(200 / 300)
    assert run.ok is False
    assert epoch.ok is False


def test_a_truth_outside_the_bounds_is_counted() -> None:
    outside = compare(900.0, 300.0, 310.0, low=0.99, high=1.01)[3]
    assert outside.value == 1


def test_a_counter_that_is_always_fresh_enough_hides_nothing() -> None:
    gpu = truth.parse(accuracy._gpu("counter_ms 100", "wave 0 const 100")).gpus[0]
    assert accuracy._bend_j(gpu, 1.234) == pytest.approx(0.0, abs=1e-9)


def test_a_counter_hides_what_lies_between_two_refreshes() -> None:
    gpu = truth.parse(accuracy._gpu("counter_ms 100", "wave 0 square 2 0.525 0 400")).gpus[0]
    # Up to 1.05 s it draws 400 W; the straight line from 1.0 to 1.1 s has risen by half of 20 J there.
    assert accuracy._bend_j(gpu, 1.05) == pytest.approx(10.0)


def test_a_power_sensor_hides_what_happens_between_its_samples() -> None:
    gpu = truth.parse(accuracy._gpu("power_ms 100", "wave 0 square 0.1 0.5 0 400")).gpus[0]
    assert accuracy._sampled_j(gpu, 0.0, 1.0) == pytest.approx(400.0)  # it only ever sees the high part
    assert gpu.trace.energy_j(1.0) == pytest.approx(200.0)


def test_an_interval_by_signs_is_no_narrower_than_asked_for() -> None:
    values = [float(i) for i in range(1, 11)]
    low, high, share = spans.sign_interval(values[::-1], 0.9)
    assert (low, high) == (2.0, 9.0)
    assert share == pytest.approx(1 - 2 * 11 / 1024)
    assert spans.sign_interval([1.0, 2.0, 3.0], 0.9) == (1.0, 3.0, 0.75)  # too few for that


def test_a_take_over_that_never_comes_is_waited_for_no_longer_than_it_takes_to_miss() -> None:
    assert one_reader.TAKE_OVER_S < one_reader.GIVE_UP_S
    assert one_reader.until(lambda: False, 0.0, give_up_s=0.0) > 0.0
    assert one_reader.until(lambda: True, 0.0) > 0.0


def test_a_child_that_fails_says_why() -> None:
    with pytest.raises(ChildError, match="spoilt"):
        child("raise SystemExit('spoilt')")


def test_settings_of_the_user_do_not_reach_a_child() -> None:
    code = "import json, os; print(json.dumps([k for k in os.environ if k.startswith('AIOCARBON')]))"
    # Nor do its processes meet others of this machine.
    assert child(code, environ={"AIOCARBON_METERS": "none", "PATH": "/usr/bin"}) == ["AIOCARBON_LOCK_DIR"]


def test_a_table_marks_what_was_missed_and_what_could_not_be_had() -> None:
    rows = [at_most("slow", 2.0, "ms", 1.0), info("other", 3.0, "ms"), skipped("absent", "ms", "no uvloop")]
    lines = Result(name="n", question="q?", command="c", quick=True, rows=rows).to_text().splitlines()
    assert ["MISSED" in line for line in lines[-3:]] == [True, False, False]
    assert lines[-1].endswith("no uvloop")


@pytest.mark.parametrize("argv", [["nothing"], ["startup", "--only", "x"], ["training", "--only", "x", "--keep"]])
def test_what_is_not_understood_is_refused(argv: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(argv)


@pytest.mark.parametrize("only", ["wrap every", "constant"])
def test_a_short_run_is_near_the_truth_and_its_result_is_written(only: str, tmp_path) -> None:
    path = tmp_path / "result.json"
    main(["accuracy", "--quick", "--only", only, "--json", str(path)])
    result = json.loads(path.read_text())
    assert set(result) == {"name", "question", "command", "quick", "rows", "machine", "versions", "commit", "took_s"}
    assert set(result["machine"]) == {"cpu", "cores", "python", "os"}
    by_metric = {row["metric"].rpartition(": ")[2]: row for row in result["rows"]}
    if by_metric.get("run") is None:
        pytest.skip(result["rows"][0]["note"])  # no C compiler
    assert by_metric["run"]["value"] < 5.0  # a loaded machine may be some ms late, no more is asked here
    assert by_metric["coverage"]["value"] > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_asks_a_question(name: str) -> None:
    import importlib

    module = importlib.import_module(f"benchmarks.{name}")
    assert name == module.NAME
    assert module.QUESTION.endswith("?")
    assert callable(module.run)


def _imported() -> Iterator[tuple[str, str]]:
    """What benchmarks import of the package, also in the programs that they hand to child processes."""
    for path in Path(benchmarks.__file__).parent.rglob("*.py"):
        for module, names in re.findall(r"^ *from (aiocarbon[\w.]*) import ([\w, ]+)$", path.read_text(), re.MULTILINE):
            for name in names.split(","):
                yield module, name.split(" as ")[0].strip()


@pytest.mark.parametrize(("module", "name"), sorted(set(_imported())))
def test_what_children_of_benchmarks_import_is_there(module: str, name: str) -> None:
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        pytest.skip(str(error))  # a framework that is not here
    assert hasattr(found, name) or importlib.util.find_spec(f"{module}.{name}")
