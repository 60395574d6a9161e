"""Trains in blocks with and without a contender in one process, and tells what each step took in each block."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.contenders import Contender, make
from benchmarks.pairs import Stop, order
from benchmarks.usage import Instructions, Usage, usage
from benchmarks.workloads.steps import NEEDS_TORCH, STEPS, Step


def train(asked: dict[str, Any]) -> dict[str, Any]:
    """Take pairs of blocks until there are enough.

    Args:
        asked: "contender", "meters", "interval_s", "step", "threads", "block_s", "warm_s", "entered_s" and "left_s"
            (trained and not counted behind entering and leaving: what they set off is no steady state), "stop"
            (fields of `Stop`), "seed", and "progress": a file that gets one byte a pair, or "".

    Returns:
        "pairs": each (without, with), both what a step took; "why": why instructions are not counted.
    """
    if asked["step"] in NEEDS_TORCH:
        import torch

        torch.set_num_threads(asked["threads"])
    return asyncio.run(_Blocks(asked).run())


def alone(asked: dict[str, Any]) -> dict[str, Any]:
    """One block of a process that knows of no contender: one may track it from outside.

    Args:
        asked: As `train` has it, but for what a contender needs.
    """

    async def block() -> dict[str, Any]:
        blocks = _Blocks(asked)
        await blocks.block(asked["warm_s"])
        return await blocks.block(asked["block_s"])

    return asyncio.run(block())


class _Blocks:
    def __init__(self, asked: dict[str, Any]) -> None:
        self._asked = asked
        self._step: Step = STEPS[asked["step"]]()
        self._counter = Instructions()
        self._contender: Contender | None = None

    async def run(self) -> dict[str, Any]:
        asked = self._asked
        stop = Stop(**asked["stop"])
        await self.block(asked["warm_s"])
        await self._switch(True)  # imports and whatever is done once in a process, before anything is counted
        await self.block(asked["warm_s"])
        pairs: list[tuple[dict[str, Any], dict[str, Any]]] = []
        for turn in order(stop.most, asked["seed"]):
            found = {is_on: await self._one(is_on) for is_on in turn}
            pairs.append((found[False], found[True]))
            _tell(asked["progress"])
            # By CPU seconds: they drift less than time, and less than what else is told.
            if stop.is_enough([(off["cpu_s"], on["cpu_s"]) for off, on in pairs], seed=asked["seed"]):
                break
        await self._switch(False)
        return {"pairs": pairs, "why": self._counter.why_not}

    async def _one(self, is_on: bool) -> dict[str, Any]:
        await self._switch(is_on)
        return await self.block(self._asked["block_s"])

    async def _switch(self, is_on: bool) -> None:
        if is_on and self._contender is None:
            self._contender = make(self._asked["contender"], self._asked["meters"], self._asked["interval_s"])
            await self._contender.enter()
            if not self._contender.has_run:
                await self._contender.begin_epochs()
            await self.block(self._asked["entered_s"])
        elif not is_on and self._contender is not None:
            contender, self._contender = self._contender, None
            await contender.exit()
            await self.block(self._asked["left_s"])

    async def block(self, seconds: float) -> dict[str, Any]:
        """Train for so many seconds; what a step took."""
        steps, step = 0, self._step
        before = usage(self._counter)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            await step()
            steps += 1
            await asyncio.sleep(0)
        return _per_step(before, usage(self._counter), steps)


def _tell(file: str) -> None:
    if file:
        with Path(file).open("a") as progress:
            progress.write(".")


def _per_step(before: Usage, after: Usage, steps: int) -> dict[str, Any]:
    wall_s = after.wall_s - before.wall_s
    instructions = None
    if before.instructions is not None and after.instructions is not None:
        instructions = (after.instructions - before.instructions) / steps
    return {
        **asdict(after),
        "wall_s": wall_s / steps,
        "cpu_s": (after.cpu_s - before.cpu_s) / steps,
        "switches": (after.switches - before.switches) / wall_s,
        "instructions": instructions,
        "steps": steps,
    }
