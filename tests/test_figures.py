"""The README's figures are those of the results that are kept, and no others."""

from __future__ import annotations

from typing import Any

from benchmarks.figures import BLOCK, LINES, PEERS, README, block, kept, peers


def row(metric: str, value: float | None, **more: Any) -> dict[str, Any]:
    return {"metric": metric, "value": value, "limit": None, "ok": None, **more}


def test_the_readme_shows_what_is_kept() -> None:
    text = README.read_text(encoding="utf-8")
    for pattern, made in ((BLOCK, block(kept())), (PEERS, peers())):
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


def test_each_line_finds_its_rows_in_what_is_kept() -> None:
    results = kept()
    silent = [line.label for line in LINES if line.name in results and "not measured" in line.text(results)]
    assert silent == []
