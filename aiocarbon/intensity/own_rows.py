"""Rows of time and value in a CSV or JSON text of the user's own, read without misreading.

What could be meant in two ways is refused, with the line: a time without its offset from UTC (two hours of the year
have the same name), a number with a comma, two columns that could both be the value. An empty value is a time without
one; it is neither zero nor the value before it.

Pure, and no single call takes long: who iterates may let other threads run between two rows.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from aiocarbon._core.intensity import MAX_G_PER_KWH, FactorBasis, IntensityKind, Quality
from aiocarbon.intensity.wording import quoted

__all__ = ["FORMAT", "Common", "Row", "Rows", "RowsError"]

FORMAT: Final = "CSV with the header time,value or a JSON list of {time, value}, times with an offset or Z, g/kWh"

TIME_NAMES: Final = frozenset({
    "time", "datetime", "date", "timestamp", "from", "start", "begin", "begins", "validfrom", "fromtime", "starttime",
    "hour", "utc", "t", "minutes5", "minutes1",
})  # fmt: skip
TO_NAMES: Final = frozenset({"to", "until", "end", "ends", "validto", "totime", "endtime"})
VALUE_NAMES: Final = frozenset({
    "value", "gperkwh", "gco2perkwh", "gco2eqperkwh", "gco2kwh", "gco2eqkwh", "gkwh", "carbonintensity",
    "carbonintensitygperkwh", "carbonintensitygco2kwh", "carbonintensitygco2eqkwh", "intensity", "intensitygperkwh",
    "co2", "co2eq", "co2intensity", "co2emission",
})  # fmt: skip
"""Names of columns and fields, lower-case letters and digits only; a time's name may end in "utc". All values are
gCO2eq/kWh: a name with another unit in it is not among them."""

OTHER_NAMES: Final = {"kind": "kind", "factorbasis": "factor_basis", "quality": "quality"}
LIST_NAMES: Final = frozenset({"data", "values", "records", "history", "forecast"})
MISSING: Final = frozenset({"", "na", "n/a", "nan", "null", "none"})

FIRST_S: Final = 1e9
LAST_S: Final = 4.2e9
"""2001 to 2103, UTC seconds: outside of it a bare number is a year, a date without dashes or milliseconds."""

Cell = object
"""A value as it was decoded: text, number, None."""


class RowsError(ValueError):
    """The text cannot be read; the message begins with the line."""


class Row(NamedTuple):
    """One row.

    Attributes:
        from_s: UTC seconds since 1970.
        to_s: Where the row says it ends; NaN where it says nothing.
        g_per_kwh: gCO2eq/kWh, 0..3000; NaN where the row is there to say that there is no value.
        quality: How it came to be known.
        line: Its line, from 1.
    """

    from_s: float
    to_s: float
    g_per_kwh: float
    quality: Quality
    line: int


class Common(NamedTuple):
    """What must be the same in all rows."""

    kind: IntensityKind = IntensityKind.AVERAGE
    factor_basis: FactorBasis = FactorBasis.UNKNOWN


class _Columns(NamedTuple):
    """Names as they stand in the text, by what they mean."""

    time: str
    is_utc: bool
    value: str
    to: str | None
    to_is_utc: bool
    others: dict[str, str]


class Rows:
    """The rows of a text, read as they are iterated over.

    Args:
        text: CSV or JSON; told apart by how it begins.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._same: dict[str, str] = {}

    def __iter__(self) -> Iterator[Row]:
        """The rows in the text's order.

        Raises:
            RowsError: It cannot be read, or could be meant in two ways.
        """
        first = re.search(r"\S", self._text)
        if first is None or first[0] == "<":
            what = "it is empty" if first is None else "it is HTML or XML"
            raise RowsError(f"line 1: {what}; expected {FORMAT}")
        records = _of_json(self._text) if first[0] in "[{" else _of_csv(self._text)
        for line, record, columns in records:
            yield _row(line, record, columns, self._same)

    @property
    def common(self) -> Common:
        """What the rows so far have in common."""
        return Common(
            IntensityKind(self._same.get("kind", IntensityKind.AVERAGE)),
            FactorBasis(self._same.get("factor_basis", FactorBasis.UNKNOWN)),
        )


def _row(line: int, record: Mapping[str, Cell], columns: _Columns, same: dict[str, str]) -> Row:
    from_s = _seconds(record.get(columns.time), columns.time, columns.is_utc, line)
    to_s = math.nan
    if columns.to is not None and not _is_missing(record.get(columns.to)):
        to_s = _seconds(record[columns.to], columns.to, columns.to_is_utc, line)
        if to_s <= from_s:
            raise RowsError(f"line {line}: {columns.to} is not after {columns.time}; expected an end after its begin")
    quality = Quality.GIVEN
    for name, column in columns.others.items():
        if _is_missing(record.get(column)):
            continue
        word = str(record[column]).strip().lower().replace("lifecycle", "life-cycle")
        accepted = {"kind": IntensityKind, "factor_basis": FactorBasis, "quality": Quality}[name]
        if word not in {str(choice) for choice in accepted}:
            raise RowsError(f"line {line}: {column} is {quoted(word)!r}; expected {' or '.join(accepted)}")
        if name == "quality":
            quality = Quality(word)
        elif same.setdefault(name, word) != word:
            raise RowsError(f"line {line}: {column} is {word}, before it was {same[name]}; expected one in all rows")
    return Row(from_s, to_s, _grams(record.get(columns.value), columns.value, line), quality, line)


def _seconds(cell: Cell, name: str, is_utc: bool, line: int) -> float:
    """UTC seconds of a time as it stands in the text."""
    expected = "expected ISO 8601 with an offset or Z (2026-10-25T02:00:00+01:00), or Unix seconds"
    shown = f"line {line}: {name} is {quoted(cell)!r}"
    number = _number(cell)
    if number is not None:
        if not FIRST_S <= number <= LAST_S:
            raise RowsError(f"{shown}, which as Unix seconds is not in 2001 to 2103; {expected} (not milliseconds)")
        return number
    try:
        when = datetime.fromisoformat(cell.strip()) if isinstance(cell, str) else None
    except ValueError:
        when = None
    if when is None:
        raise RowsError(f"{shown}; {expected}")
    if when.tzinfo is None:
        if not is_utc:
            raise RowsError(f"{shown}, without its offset from UTC; {expected}, or the name {name}_utc if it is UTC")
        when = when.replace(tzinfo=UTC)
    seconds = when.timestamp()
    if not FIRST_S <= seconds <= LAST_S:
        raise RowsError(f"{shown}; expected a time of 2001 to 2103")
    return seconds


def _grams(cell: Cell, name: str, line: int) -> float:
    if _is_missing(cell):
        return math.nan
    number = _number(cell)
    if number is None or not 0.0 <= number <= MAX_G_PER_KWH:
        hint = " with a point" if isinstance(cell, str) and "," in cell else ""
        raise RowsError(
            f"line {line}: {name} is {quoted(cell)!r}; expected a number{hint}, 0 to {MAX_G_PER_KWH:g} gCO2eq/kWh"
        )
    return number


def _number(cell: Cell) -> float | None:
    if isinstance(cell, bool):
        return None
    if isinstance(cell, int | float):
        return float(cell) if abs(cell) < 1e18 else math.inf
    if isinstance(cell, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,18}(\.[0-9]*)?([eE][+-]?[0-9]{1,2})?\s*", cell):
        return float(cell)
    return None


def _is_missing(cell: Cell) -> bool:
    return cell is None or (isinstance(cell, str) and cell.strip().lower() in MISSING)


def _columns(names: list[str], line: int) -> _Columns:
    """What the names of columns or fields mean."""
    plain = {name: re.sub("[^a-z0-9]", "", name.lower()) for name in names}
    time = [name for name in names if _timed(plain[name], TIME_NAMES)]
    # "from" and "time" together: the more exact one. "utc" wins where a local time stands beside it.
    time = [name for name in time if plain[name].endswith("utc")] or time
    time = [name for name in time if plain[name].startswith(("from", "start", "begin", "validfrom"))] or time
    to = [name for name in names if _timed(plain[name], TO_NAMES)]
    to = [name for name in to if plain[name].endswith("utc")] or to
    value = [name for name in names if plain[name] in VALUE_NAMES]
    for what, matches, accepted in (("time", time, TIME_NAMES), ("value", value, VALUE_NAMES)):
        if len(matches) != 1:
            why = (
                f"{' and '.join(matches)} could each be the {what}" if matches else f"none of the names is the {what}'s"
            )
            shown = quoted(", ".join(names), 120)
            raise RowsError(f"line {line}: {why} ({shown}); expected one of {', '.join(sorted(accepted))}")
    return _Columns(
        time=time[0],
        is_utc=plain[time[0]].endswith("utc"),
        value=value[0],
        to=to[0] if to else None,
        to_is_utc=bool(to) and plain[to[0]].endswith("utc"),
        others={OTHER_NAMES[plain[name]]: name for name in names if plain[name] in OTHER_NAMES},
    )


def _timed(plain: str, names: frozenset[str]) -> bool:
    return plain in names or plain.removesuffix("utc") in names


Record = tuple[int, Mapping[str, Cell], _Columns]
PAIR: Final = _Columns("time", False, "value", None, False, {})


def _of_csv(text: str) -> Iterator[Record]:
    delimiter = max(",;\t", key=next(filter(str.strip, _lines(text)), "").count)
    reader = csv.reader(_lines(text), delimiter=delimiter, strict=True)
    names: list[str] = []
    columns = PAIR
    try:
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            if not names:
                names = [field.strip() for field in fields]
                if _is_headless(names):
                    names = ["time", "value"]
                else:
                    if len(set(names)) < len(names):
                        raise RowsError(
                            f"line {reader.line_num}: a name stands twice in the header; expected time,value"
                        )
                    columns = _columns(names, reader.line_num)
                    continue
            if len(fields) != len(names):
                raise RowsError(f"line {reader.line_num}: {len(fields)} fields; expected {len(names)} as in the header")
            yield reader.line_num, dict(zip(names, fields, strict=True)), columns
    except csv.Error as error:
        raise RowsError(f"line {reader.line_num}: no CSV ({error}); expected {FORMAT}") from error


def _lines(text: str) -> Iterator[str]:
    """The lines, cut one at a time, since cutting 4 MiB at once takes 10 ms.

    A comment becomes an empty line, so that the count of lines stays right and its quotes open nothing.
    """
    at = 0
    while at < len(text):
        end = text.find("\n", at) + 1 or len(text)
        yield "\n" if text.startswith("#", at) else text[at:end]
        at = end


def _is_headless(fields: list[str]) -> bool:
    """Whether a first line is already a row: two fields, the first with a digit where a name has none."""
    return len(fields) == 2 and fields[0][:1].isdigit()


def _of_json(text: str) -> Iterator[Record]:
    columns: dict[tuple[str, ...], _Columns] = {}
    for line, element in _elements(text):
        if isinstance(element, list):
            if len(element) != 2:
                raise RowsError(f"line {line}: a list of {len(element)}; expected pairs of time and value")
            yield line, {"time": element[0], "value": element[1]}, PAIR
        elif isinstance(element, dict):
            names = tuple(element)
            if names not in columns:
                columns[names] = _columns(list(names), line)
            yield line, element, columns[names]
        else:
            raise RowsError(f"line {line}: {quoted(element)!r}; expected {{time, value}} or a pair of the two")


def _elements(text: str) -> Iterator[tuple[int, Any]]:
    """The elements of the one list, each with its line: decoding all at once would hold the interpreter too long."""
    scan = _Scan(text)
    if scan.peek() == "[":
        yield from scan.elements()
    else:
        found = ""
        for name in scan.members():
            if name in LIST_NAMES and scan.peek() == "[":
                if found:
                    raise RowsError(f"line {scan.line()}: {found} and {name} could each be the rows; expected one list")
                found = name
                yield from scan.elements()
            else:
                scan.value()
        if not found:
            raise RowsError(f"line 1: no list in it is named {', '.join(sorted(LIST_NAMES))}; expected {FORMAT}")
    if scan.peek():
        raise scan.error("there is more after its end")


class _Scan:
    """A place in a JSON text, moved on one value at a time."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._counted = (0, 1)
        self._decoder = json.JSONDecoder(parse_constant=_constant)

    def line(self) -> int:
        """The line of this place, from 1."""
        at, line = self._counted
        self._counted = (self._at, line + self._text.count("\n", at, self._at))
        return self._counted[1]

    def error(self, why: str) -> RowsError:
        return RowsError(f"line {self.line()}: no JSON ({why}); expected {FORMAT}")

    def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while self._text[self._at : self._at + 1] in (" ", "\t", "\r", "\n"):
            self._at += 1
        return self._text[self._at : self._at + 1]

    def value(self) -> Any:
        self.peek()
        try:
            value, self._at = self._decoder.raw_decode(self._text, self._at)
        except (ValueError, RecursionError) as error:
            raise self.error(str(error).partition(":")[0] or type(error).__name__) from error
        return value

    def elements(self) -> Iterator[tuple[int, Any]]:
        """The elements of the list that begins here."""
        for _ in self._items("[", "]"):
            yield self.line(), self.value()

    def members(self) -> Iterator[str]:
        """The names of the object that begins here; the caller moves over each one's value."""
        for _ in self._items("{", "}"):
            name = self.value()
            if not isinstance(name, str) or self.peek() != ":":
                raise self.error("a name and a colon belong here")
            self._at += 1
            yield name

    def _items(self, begin: str, end: str) -> Iterator[None]:
        if self.peek() != begin:
            raise self.error(f"{begin} belongs here")
        self._at += 1
        if self.peek() == end:
            self._at += 1
            return
        while True:
            self.peek()
            yield
            after = self.peek()
            if after not in (",", end) or not after:
                raise self.error("cut off" if not after else f", or {end} belongs here")
            self._at += 1
            if after == end:
                return


def _constant(name: str) -> None:
    """NaN is how some programs write a missing value; the infinities are none."""
    if name != "NaN":
        raise ValueError(f"{name} is no number")
