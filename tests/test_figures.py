"""The README's figures are those of the results that are kept, and no others."""

from __future__ import annotations

from typing import Any

from benchmarks import table
from benchmarks.figures import BLOCK, LINES, PEERS, README, block, peers, rows_of, where


def row(metric: str, value: float | None, **more: Any) -> dict[str, Any]:
    return {"metric": metric, "value": value, "limit": None, "ok": None, **more}


def test_the_readme_shows_what_is_kept() -> None:
    text = README.read_text(encoding="utf-8")
    for pattern, made in ((BLOCK, block(table.read())), (PEERS, peers())):
        found = pattern.search(text)
        assert found is not None
        assert found[0] == made, "run `python -m benchmarks.figures`"


def test_the_worst_row_is_shown_a_miss_is_said_and_what_was_not_measured_too() -> None:
    line = next(line for line in LINES if line.label == "process gone after its end")
    rows = [
        row("from the end of the program to no process, as it is", 73.0, ok=True),
        row("from the end of the program to no process, without a network", 2100.0, ok=False),
        row("enter, as it is", 9000.0, ok=False),
        row("from the end of the program to no process, elsewhere", None),
    ]
    assert "| 2100 ms (**missed**) | 2 s | `python -m benchmarks startup` |" in line.text({"startup": rows})
    assert "| not measured | 2 s |" in line.text({})
    failed = row("from the end of the program to no process, as it is", None, ok=False)
    assert "| 2100 ms (**missed**) |" in line.text({"startup": [rows[1], failed]})
    assert "| not measured (**missed**) |" in line.text({"startup": [failed]})


def test_no_miss_that_is_kept_is_left_out_of_the_readme() -> None:
    left_out = [
        f"{name}: {row['metric']}"
        for name, rows in rows_of(table.read()).items()
        for row in rows
        if row["ok"] is False and name not in table.NAMES
        if not any(line.name == name and line.is_mine(row) and "missed" in line.text({name: rows}) for line in LINES)
    ]
    assert left_out == []


def test_a_machine_that_is_not_that_of_most_is_named() -> None:
    one, other = {"machine": {"cpu": "A", "cores": 2}}, {"machine": {"cpu": "B", "cores": 4}}
    assert where({"memory": one, "spans": one, "overhead": other}) == "A, 2 cores; B, 4 cores: `overhead`"


def test_a_line_may_show_what_its_rows_tell_in_words() -> None:
    line = next(line for line in LINES if line.told)
    rows = [row("a: run", 0.2, limit=1.0, note="-5.217 % of 2040 J"), row("b: run", 0.3, limit=1.0, note="+0.3 % of 1")]
    assert "| 5.2 % |" in line.text({"accuracy": rows})


def test_each_line_finds_its_rows_in_what_is_kept() -> None:
    results = rows_of(table.read())
    silent = [line.label for line in LINES if line.name in results and "not measured" in line.text(results)]
    assert silent == []
