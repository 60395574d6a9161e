"""What sources answered, on disk: shared by all processes of a user, so that each value is asked for once.

One small JSON file a question, replaced as a whole; beside it a lock file, held while its question is asked. A folder
that cannot be written costs nothing but the sharing; a file that cannot be read is as good as none. No token, no
address of this machine and no coordinates are written. Blocking: call in a worker.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiocarbon._core.answer import Answer, Sample
from aiocarbon._core.intensity import MAX_G_PER_KWH, FactorBasis, IntensityKind, Quality

__all__ = ["Cache", "Entry", "Lock", "default_folder"]

SCHEMA: Final = "aiocarbon.intensity/1"
FOLDER: Final = "AIOCARBON_CACHE"
LARGEST: Final = 1 << 20
KEPT_S: Final = 7 * 86400.0
"""A file that nobody wrote for a week is removed."""

MOST_PAUSE_S: Final = 2 * 86400.0
"""A source is left alone and an answer kept for a day at most; a file that says twice as long is damaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is known of one question.

    Attributes:
        answer: What was answered last; None if nothing ever was.
        asked_s: When it was (UTC seconds).
        due_s: When to ask again.
        failures: How often in a row it was not answered since.
        failed_s: When it was not, last (UTC seconds).
        not_before_s: While it is not answered: when to try again.
        why: While it is not answered: why.
        place: Text kept for other uses than intensity: the zone that was found for this machine.
    """

    answer: Answer | None = None
    asked_s: float = 0.0
    due_s: float = 0.0
    failures: int = 0
    failed_s: float = 0.0
    not_before_s: float = 0.0
    why: str = ""
    place: str = ""

    def is_left_alone(self, now_s: float) -> bool:
        """True while it is not to be asked; a failure in what the clock now calls the future does not count."""
        return self.failed_s <= now_s < self.not_before_s


class Lock:
    """An exclusive lock between processes, held until `release`, the end of the process, or nobody has this object.

    The last is for a worker whose result nobody waits for any more: who asked for the lock was cancelled.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        """Give it back."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def __del__(self) -> None:
        """Give it back."""
        self.release()


class Cache:
    """The folder of answers.

    Args:
        folder: Where; None for no folder at all.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def read(self, key: str) -> Entry | None:
        """What is known of a question; None if nothing, or nothing readable."""
        if self.folder is None:
            return None
        try:
            with self._path(key).open("rb") as file:
                plain = json.loads(file.read(LARGEST))
            return _entry(plain) if plain["schema"] == SCHEMA and plain["key"] == key else None
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return None

    def write(self, key: str, entry: Entry) -> bool:
        """Replace what is known of a question; False where that cannot be written."""
        if self.folder is None:
            return False
        text = json.dumps(_plain(key, entry), separators=(",", ":"), allow_nan=False)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=".new-", dir=self.folder)
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    file.write(text)
                os.replace(name, self._path(key))
            except OSError:
                with contextlib.suppress(OSError):
                    os.unlink(name)
                return False
        except OSError:
            return False
        return True

    def lock(self, key: str) -> Lock | None:
        """The right to ask a question; None while another process has it.

        Where there is no folder, or no locks on its file system, everyone has it.
        """
        if self.folder is None:
            return Lock(-1)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._path(key).with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return Lock(-1)
        try:
            _try_lock(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:  # a file system without locks
            return Lock(descriptor)
        return Lock(descriptor)

    def tidy(self) -> None:
        """Remove what nobody wrote for a week."""
        if self.folder is None:
            return
        now_s = time.time()
        with contextlib.suppress(OSError):
            for path in self.folder.iterdir():
                with contextlib.suppress(OSError):
                    if path.name.startswith((".new-", "q-")) and path.stat().st_mtime < now_s - KEPT_S:
                        path.unlink()

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / f"q-{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def default_folder(environ: Mapping[str, str] = os.environ, *, platform: str = sys.platform) -> Path | None:
    """Where answers are kept: `AIOCARBON_CACHE` ("none" for nowhere), else the user's cache folder; None if unknown."""
    told = environ.get(FOLDER, "").strip()
    if told:
        return None if told.lower() == "none" else Path(told)
    if platform == "win32":
        base = environ.get("LOCALAPPDATA", "")
    else:
        base = environ.get("XDG_CACHE_HOME", "")
        if not os.path.isabs(base):  # the XDG specification has relative ones ignored
            home = environ.get("HOME", "")
            base = os.path.join(home, ".cache") if home else ""
    return Path(base) / "aiocarbon" / "intensity" if base else None


def _try_lock(descriptor: int) -> None:
    """Lock a file or raise BlockingIOError."""
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError from error
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _plain(key: str, entry: Entry) -> dict[str, Any]:
    answer = entry.answer
    return {
        "schema": SCHEMA,
        "key": key,
        "asked_s": entry.asked_s,
        "due_s": entry.due_s,
        "failures": entry.failures,
        "failed_s": entry.failed_s,
        "not_before_s": entry.not_before_s,
        "why": entry.why,
        "place": entry.place,
        "answer": None
        if answer is None
        else {
            "source": answer.source,
            "title": answer.title,
            "zone": answer.zone,
            "kind": answer.kind.value,
            "factor_basis": answer.factor_basis.value,
            "note": answer.note,
            "whole": answer.whole,
            "samples": [[s.from_s, s.to_s, s.g_per_kwh, s.quality.value] for s in answer.samples],
        },
    }


def _entry(plain: dict[str, Any]) -> Entry:
    """The entry of a file; whatever wrote it, its numbers are in range.

    Raises:
        KeyError, TypeError, ValueError, OverflowError: It is none.
    """
    answer = plain["answer"]
    entry = Entry(
        answer=None if answer is None else _answer(answer),
        asked_s=_finite(plain["asked_s"]),
        due_s=_finite(plain["due_s"]),
        failures=int(_finite(plain["failures"])),
        failed_s=_finite(plain["failed_s"]),
        not_before_s=_finite(plain["not_before_s"]),
        why=str(plain["why"]),
        place=str(plain["place"]),
    )
    pauses_s = entry.due_s - entry.asked_s, entry.not_before_s - entry.failed_s
    if max(pauses_s) > MOST_PAUSE_S or entry.failures < 0:
        raise ValueError("a number out of range")
    return entry


def _answer(plain: dict[str, Any]) -> Answer:
    samples = []
    for from_s, to_s, g_per_kwh, quality in plain["samples"]:
        if not (_finite(from_s) < _finite(to_s) and 0.0 <= _finite(g_per_kwh) <= MAX_G_PER_KWH):
            raise ValueError("a sample out of range")
        samples.append(Sample(float(from_s), float(to_s), float(g_per_kwh), Quality(quality)))
    if not samples or any(a.from_s >= b.from_s for a, b in itertools.pairwise(samples)):
        raise ValueError("no samples, or not in order")
    whole = plain.get("whole")
    return Answer(
        source=str(plain["source"]),
        title=str(plain["title"]),
        zone=str(plain["zone"]),
        kind=IntensityKind(plain["kind"]),
        factor_basis=FactorBasis(plain["factor_basis"]),
        note=str(plain["note"]),
        samples=tuple(samples),
        whole=None if whole is None else (_finite(whole[0]), _finite(whole[1])),
    )


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)
