"""The user's own intensities: a file or a URL of rows of time and value, in CSV or JSON.

    time,value
    2026-10-25T02:00:00+02:00,310
    2026-10-25T02:00:00+01:00,290

A row holds until the next one, the last one for as long as the one before it; a row without a value says that there is
none. `to`, `kind`, `factor_basis` and `quality` may be columns too. Values are gCO2eq/kWh and count as given.

A file is read again when it was changed. Reading goes to a worker and lets other threads run every few rows, since a
thread that decodes a year of five minutes at once would keep the interpreter from the training for a tenth of a second.
Nothing here is imported for an intensity that is None or a number.
"""

from __future__ import annotations

import bisect
import heapq
import math
import os
import re
import stat
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

from aiocarbon._core.answer import Answer, Sample
from aiocarbon._core.intensity import Location, Quality
from aiocarbon.errors import BadAnswerError, ConfigError, NoDataError, SourceDownError, SourceRefusedError
from aiocarbon.intensity import sources
from aiocarbon.intensity.base import MOST_SAMPLES, Source, Traits
from aiocarbon.intensity.own_rows import FORMAT, Common, Rows, RowsError

if TYPE_CHECKING:
    from aiocarbon.intensity.client import Blocking, Client

__all__ = ["beside", "checked", "open_own"]

T = TypeVar("T")

NAME: Final = "own"
MOST_BYTES: Final = 4 * 1024 * 1024
"""A year of five minutes takes 3.5 MB."""

PAUSE_ROWS: Final = 100
PAUSE_S: Final = 0.0005
"""Decoding so many rows takes 0.5 ms; a shorter sleep does not let another thread have the interpreter for sure."""

SORTED_AT_ONCE: Final = 2000
LAST_HOLDS_S: Final = 3600.0
"""For a file of a single row."""

SEEN_BACK_S: Final = 86400.0
SEEN_BACK_STEPS: Final = 1000
SEEN_AHEAD_S: Final = 60.0
SEEN_AHEAD_STEPS: Final = 2
"""The next rows come along, so that past a border of two rows the table's average does not stand in until asked."""

REUSED_S: Final = 60.0
"""How long what a URL answered serves for questions about the past and the future."""

QUALITIES: Final = tuple(Quality)


def checked(text: str) -> str:
    """A text given as intensity that is no number: a URL, the name of a source, or a file; blocking, but short.

    Returns:
        The URL, the name, or the file's absolute path: the current folder may be another when it is read.

    Raises:
        ConfigError: It is a URL that anybody on the way could change.
        ValueError: It is none of these; the message says what is accepted.
    """
    text = text.strip()
    if "://" in text:
        if not _is_safe(text):
            shown = re.sub("//.*@", "//", text.partition("?")[0])  # what else is in it may be a secret
            raise ConfigError("intensity", shown, "a URL that begins with https:// (http:// on this machine only)")
        return text
    if text in sources.REGISTRY:
        return text
    if text and "\0" not in text and os.path.isfile(text):
        return os.path.abspath(text)
    names = sources.names()  # with those of plug-ins, for which the installed packages are looked through
    if text in names:
        return text
    import difflib  # only on the way to an error

    near = difflib.get_close_matches(os.path.basename(text).lower(), names, n=2, cutoff=0.6)
    hint = f"; near: {', '.join(near)}" if near else ""
    raise ValueError(
        "a number of gCO2eq/kWh from 0 to 3000, a file that is there, an https:// URL, "
        f"the name of a source ({', '.join(names)}), or None{hint}"
    )


def beside(text: str, folder: Path) -> str:
    """A text of a configuration file, with a path made to begin at that file's folder."""
    if "://" in text or text in sources.REGISTRY or os.path.isabs(text) or text in sources.names():
        return text
    return str(folder / text)


def open_own(spec: str, place: Location, blocking: Blocking) -> Source:
    """The source of a file or URL of the user's; nothing is read yet but the file's time of change (blocking).

    Args:
        spec: What `checked` gave: a path or a URL.
        place: Where the machine is; the values are taken for those of its zone.
        blocking: Runs a blocking function in a worker thread.
    """
    return OwnUrl(spec, place, blocking) if "://" in spec else OwnFile(Path(spec), place, blocking)


class Series:
    """Rows in the order of time, as plain arrays: a hundred thousand objects would cost the collector 10 ms a round."""

    def __init__(self) -> None:
        self.from_s, self.to_s, self.g_per_kwh = array("d"), array("d"), array("d")
        self.quality = bytearray()
        self.step_s = LAST_HOLDS_S
        self.common = Common()

    def add(self, from_s: float, to_s: float, g_per_kwh: float, quality: int) -> None:
        """Put a row behind the others."""
        self.from_s.append(from_s)
        self.to_s.append(to_s)
        self.g_per_kwh.append(g_per_kwh)
        self.quality.append(quality)

    def said(self, i: int) -> tuple[float | None, float | None, int]:
        """What a row says, to be compared: a number that is missing equals another missing one."""
        to_s, g_per_kwh = self.to_s[i], self.g_per_kwh[i]
        return None if math.isnan(to_s) else to_s, None if math.isnan(g_per_kwh) else g_per_kwh, self.quality[i]

    def between(self, begin_s: float, end_s: float) -> tuple[tuple[Sample, ...], tuple[float, float]]:
        """The rows that overlap a window, the first `MOST_SAMPLES` of them, and the window of which they are all."""
        first, after = bisect.bisect_right(self.to_s, begin_s), bisect.bisect_left(self.from_s, end_s)
        last = min(after, first + MOST_SAMPLES)
        samples = tuple(
            Sample(self.from_s[i], self.to_s[i], self.g_per_kwh[i], QUALITIES[self.quality[i]])
            for i in range(first, last)
        )
        return samples, (begin_s, end_s if last == after else self.from_s[last])


def read_series(text: str, pause: Callable[[], None] = lambda: None) -> Series:
    """The rows of a text in the order of time.

    Args:
        text: CSV or JSON.
        pause: Called every few rows.

    Raises:
        RowsError: It cannot be read, has no value, or says two things of one instant.
    """
    rows, raw, lines = Rows(text), Series(), array("q")
    for row in _paused(rows, pause):
        raw.add(row.from_s, row.to_s, row.g_per_kwh, QUALITIES.index(row.quality))
        lines.append(row.line)
    series = Series()
    spacings: dict[float, int] = {}
    spacing_s = LAST_HOLDS_S
    order = _distinct(raw, lines, pause)
    i = next(order, None)
    while i is not None:
        after = next(order, None)
        from_s, to_s = raw.from_s[i], raw.to_s[i]
        next_s = math.inf if after is None else raw.from_s[after]
        if after is not None:
            spacing_s = next_s - from_s
            spacings[spacing_s] = spacings.get(spacing_s, 0) + 1
        if not math.isnan(raw.g_per_kwh[i]):
            to_s = from_s + spacing_s if math.isnan(to_s) else min(to_s, next_s)
            series.add(from_s, to_s, raw.g_per_kwh[i], raw.quality[i])
        i = after
    if not series.from_s:
        raise RowsError(f"line 1: there is no row with a value; expected {FORMAT}")
    series.step_s = max(spacings, key=lambda s: spacings[s]) if spacings else series.to_s[0] - series.from_s[0]
    series.common = rows.common
    return series


def _distinct(raw: Series, lines: Sequence[int], pause: Callable[[], None]) -> Iterator[int]:
    """Indices of rows in the order of time, without repetitions."""
    before = -1
    for i in _ordered(raw.from_s, pause):
        if before >= 0 and raw.from_s[before] == raw.from_s[i]:
            if raw.said(before) != raw.said(i):
                first, second = sorted((lines[before], lines[i]))
                raise RowsError(
                    f"line {second}: another value for {_shown(raw.from_s[i])} than in line {first}; "
                    "expected one row an instant, of one zone"
                )
            continue
        before = i
        yield i


def _ordered(keys: Sequence[float], pause: Callable[[], None]) -> Iterator[int]:
    """Indices in the order of their keys; sorting a hundred thousand at once would hold the interpreter for 30 ms."""
    runs = []
    for begin in range(0, len(keys), SORTED_AT_ONCE):
        runs.append(sorted(range(begin, min(begin + SORTED_AT_ONCE, len(keys))), key=keys.__getitem__))
        pause()
    return _paused(heapq.merge(*runs, key=keys.__getitem__), pause)


def _paused(items: Iterable[T], pause: Callable[[], None]) -> Iterator[T]:
    for count, item in enumerate(items, 1):
        yield item
        if count % PAUSE_ROWS == 0:
            pause()


class _Own:
    """What a file and a URL have in common."""

    def __init__(self, title: str, asked_at: str, place: Location, blocking: Blocking, *, is_remote: bool) -> None:
        self._title, self._asked_at, self._zone, self._is_remote = title, asked_at, place.zone, is_remote
        self._blocking = blocking
        self._series: Series | None = None

    @property
    def traits(self) -> Traits:
        """What it is; its step, kind and factors are known from the first answer on."""
        series = self._series or Series()
        return Traits(
            name=NAME,
            title=self._title,
            zone=self._zone,
            kind=series.common.kind,
            factor_basis=series.common.factor_basis,
            step_s=series.step_s,
            stale_s=0.0,  # a row says itself, or by the next one, how long it holds
            has_past=True,
            corrects=True,  # rows that say "estimated"; those that count as given are the user's word, as a number is
            has_forecast=True,
            is_remote=self._is_remote,
            asked_at=self._asked_at,
        )

    async def now(self, client: Client, now_s: float) -> Answer:
        """The row that holds now, those of up to a day before it, and the next ones."""
        series = await self._known(client, now_s, is_now=True)
        back_s = min(SEEN_BACK_S, SEEN_BACK_STEPS * series.step_s)
        ahead_s = max(SEEN_AHEAD_S, SEEN_AHEAD_STEPS * series.step_s)
        samples, whole = series.between(now_s - back_s, now_s + min(ahead_s, back_s))
        if not any(sample.from_s <= now_s < sample.to_s for sample in samples):
            raise self._nothing(series, now_s)
        return self._answer(series, samples, whole)

    async def past(self, client: Client, begin_s: float, end_s: float, now_s: float) -> Answer:
        """The rows of a window."""
        series = await self._known(client, now_s)
        return self._answer(series, *series.between(begin_s, end_s))

    async def forecast(self, client: Client, now_s: float, hours: float) -> Answer:
        """The rows from now on."""
        series = await self._known(client, now_s)
        return self._answer(series, *series.between(now_s, now_s + hours * 3600.0))

    async def _known(self, client: Client, now_s: float, *, is_now: bool = False) -> Series:
        raise NotImplementedError

    def _answer(self, series: Series, samples: tuple[Sample, ...], whole: tuple[float, float]) -> Answer:
        if not samples:
            raise self._nothing(series, whole[0])
        return Answer(
            source=NAME,
            title=self._title,
            zone=self._zone,
            kind=series.common.kind,
            factor_basis=series.common.factor_basis,
            samples=samples,
            # Of the time before its first row it says nothing: what was told of that and is not shown any more stays.
            whole=(max(whole[0], series.from_s[0]), whole[1]),
        )

    def _nothing(self, series: Series, at_s: float) -> NoDataError:
        i = bisect.bisect_right(series.from_s, at_s) - 1
        if i < 0:
            why = f"its first row begins at {_shown(series.from_s[0])}"
        else:
            why = f"the row before it ends at {_shown(series.to_s[i])}"
        return NoDataError(f"{self._title} has no value for {_shown(at_s)}: {why}", source=NAME)

    def _parsed(self, content: bytes, where: str) -> Series:
        """Blocking.

        Raises:
            BadAnswerError: It cannot be read.
        """
        try:
            return read_series(content.decode("utf-8-sig"), lambda: time.sleep(PAUSE_S))
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise BadAnswerError(f"{where}: line {line}: no UTF-8; expected {FORMAT}", source=NAME) from error
        except RowsError as error:
            raise BadAnswerError(f"{where}: {error}", source=NAME) from error


class OwnFile(_Own):
    """A file of the user's, read again when it was changed."""

    def __init__(self, path: Path, place: Location, blocking: Blocking) -> None:
        try:
            changed = str(_stamp(os.stat(path)))
        except OSError:  # the first question tells
            changed = ""
        # What was answered of the file as it was before is not the answer to another run's question.
        super().__init__(_written(path.name), f"{_written(str(path))} {changed}", place, blocking, is_remote=False)
        self._path = path
        self._stamp: tuple[int, ...] = ()

    async def _known(self, client: Client, now_s: float, *, is_now: bool = False) -> Series:
        series: Series = await self._blocking(self._read)
        return series

    def _read(self) -> Series:
        try:
            seen = os.stat(self._path)
            if self._series is not None and _stamp(seen) == self._stamp:
                return self._series
            if not stat.S_ISREG(seen.st_mode):
                raise SourceRefusedError(f"{self._path} is no file", source=NAME, remedy=f"expected {FORMAT}")
            with open(self._path, "rb") as file:
                before = os.fstat(file.fileno())
                content = file.read(MOST_BYTES + 1)
                after = os.fstat(file.fileno())
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise SourceDownError(f"{self._path} cannot be read: {why}", source=NAME) from error
        if len(content) > MOST_BYTES:
            raise BadAnswerError(
                f"{self._path} is larger than {MOST_BYTES // 1024**2} MiB; expected the rows of this run's time",
                source=NAME,
            )
        if _stamp(before) != _stamp(after):
            raise SourceDownError(f"{self._path} was being written while it was read", source=NAME)
        series = self._parsed(content, str(self._path))
        self._series, self._stamp = series, _stamp(after)
        return series


class OwnUrl(_Own):
    """A URL of the user's, asked with every question for the present."""

    def __init__(self, url: str, place: Location, blocking: Blocking) -> None:
        import hashlib

        parts = urlsplit(url)
        title = f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
        # Its query may be a secret, and tells it from others.
        super().__init__(title, hashlib.sha256(url.encode()).hexdigest(), place, blocking, is_remote=True)
        self._url = url
        self._asked_s = -math.inf

    async def _known(self, client: Client, now_s: float, *, is_now: bool = False) -> Series:
        if self._series is not None and not is_now and 0.0 <= now_s - self._asked_s < REUSED_S:
            return self._series
        reply = await client.ask("GET", self._url, source=NAME, headers={"Accept": "text/csv, application/json"})
        series: Series = await self._blocking(self._parsed, reply.body, self._title)
        self._series, self._asked_s = series, now_s
        return series


def _is_safe(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    is_loopback = host in {"localhost", "::1"} or (host.startswith("127.") and host.replace(".", "").isdigit())
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback))


def _written(path: str) -> str:
    """A path as it can be written anywhere: bytes that are no UTF-8, which Python has as lone surrogates, by number."""
    return path.encode("utf-8", "backslashreplace").decode()


def _stamp(seen: os.stat_result) -> tuple[int, ...]:
    return seen.st_mtime_ns, seen.st_size, seen.st_ino, seen.st_dev


def _shown(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
