"""Drives a contender through a run whose joules are known elsewhere, and tells the instants and what it said."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from typing import Any

from benchmarks.contenders import Contender, make


def drive(asked: dict[str, Any]) -> dict[str, Any]:
    """Go through a run.

    Args:
        asked: "contender", "meters", and either "epochs" (seconds of each, in order; the loop is blocked in those of
            "blocked"; they are marked if "is_marked") or "tasks" (name, begin and end in seconds of each; one behind
            the other if "are_in_turn"). If "until_ns" is no None, one epoch goes on until then instead.

    Returns:
        "begin_ns" and "end_ns" on CLOCK_MONOTONIC, "joins", "marks" (before and after each epoch's border) or "tasks"
        (name to its begin and end), "said" and "failed": why it said nothing, or "".
    """
    contender = make(asked["contender"], asked["meters"])
    return asyncio.run(_drive(contender, asked))


async def _drive(contender: Contender, asked: dict[str, Any]) -> dict[str, Any]:
    heard: dict[str, Any] = {"joins": contender.joins, "marks": [], "tasks": {}, "said": {}, "failed": ""}
    await contender.enter()
    heard["begin_ns"] = time.monotonic_ns()
    try:
        if asked["tasks"]:
            await _tasks(contender, asked, heard)
        else:
            await _epochs(contender, asked, heard)
        heard["end_ns"] = time.monotonic_ns()
        await contender.exit()
        heard["said"] = asdict(contender.said())
    except Exception as error:
        # Whatever a contender raises in the middle of a training is a result of it, not of the benchmark.
        heard["end_ns"] = time.monotonic_ns()
        heard["failed"] = f"raised {type(error).__name__}: {error}"
    return heard


async def _epochs(contender: Contender, asked: dict[str, Any], heard: dict[str, Any]) -> None:
    """Epochs of the asked lengths; where only the run counts there is one that is never marked."""
    is_marked = asked["is_marked"]
    if is_marked or not contender.has_run:
        await contender.begin_epochs()
    heard["begin_ns"] = time.monotonic_ns()
    if asked["until_ns"] is not None:
        await asyncio.sleep((asked["until_ns"] - heard["begin_ns"]) * 1e-9)
        return
    for index, seconds in enumerate(asked["epochs"]):
        if index in asked["blocked"]:
            time.sleep(seconds)  # noqa: ASYNC251 - a training that never awaits is what is looked at
        else:
            await asyncio.sleep(seconds)
        if is_marked:
            before_ns = time.monotonic_ns()
            await contender.epoch()
            heard["marks"].append((before_ns, time.monotonic_ns()))


async def _tasks(contender: Contender, asked: dict[str, Any], heard: dict[str, Any]) -> None:
    async def one(name: str, wait_s: float, length_s: float) -> None:
        await asyncio.sleep(wait_s)
        async with contender.task(name):
            begin_ns = time.monotonic_ns()
            await asyncio.sleep(length_s)
            heard["tasks"][name] = (begin_ns, time.monotonic_ns())

    if asked["are_in_turn"]:
        # One behind the other, whatever a contender takes to begin: else a slow one would find two open at once.
        last_s = 0.0
        for name, begin_s, end_s in asked["tasks"]:
            await one(name, begin_s - last_s, end_s - begin_s)
            last_s = end_s
        return
    async with asyncio.TaskGroup() as group:
        for name, begin_s, end_s in asked["tasks"]:
            group.create_task(one(name, begin_s, end_s - begin_s))
