"""A load on every real GPU, and what each way to read them says of it."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from benchmarks.hardware import POWER, SMI, ZEUS, Sample

BUSY_S, IDLE_S = 3.0, 2.0
SIDE = 4096
J_PER_KWH = 3.6e6
SMI_COMMAND = ("--query-gpu=index,power.draw", "--format=csv,noheader,nounits", "-lms", "100")

Log = dict[int, list[Sample]]


def measure(asked: dict[str, Any]) -> dict[str, Any]:
    """Run the load, and measure it in all ways.

    Args:
        asked: "rounds": how often the GPUs are busy for 3 s and idle for 2 s.

    Returns:
        What `benchmarks.hardware.rows_of` takes.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as error:
        return {"why": f"no NVIDIA GPU here: {error}"}
    gpus = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(count)]
    return asyncio.run(_measure(gpus, asked["rounds"]))


async def _measure(gpus: list[Any], rounds: int) -> dict[str, Any]:
    import pynvml

    import aiocarbon

    load, told = _load()
    smi = shutil.which("nvidia-smi")
    whys = {} if smi else {SMI: "there is no nvidia-smi"}
    logs: dict[str, Log] = {POWER: {}, SMI: {}}
    with ExitStack() as stack:
        power_log = (sys.executable, "-m", "benchmarks.workloads.power_log")
        stack.enter_context(_logged(power_log, _stamped, logs[POWER]))
        if smi:
            stack.enter_context(_logged((smi, *SMI_COMMAND), _of_smi, logs[SMI]))
        zeus = _zeus(whys)
        async with aiocarbon.Tracker(location="DK", pue=1.0, meters="nvml", offline=True) as tracker:
            await asyncio.to_thread(load, 0.5)  # what CUDA needs to begin is no load
            await asyncio.sleep(IDLE_S)
            async with tracker.epoch():
                begin_ns, before = time.monotonic_ns(), _counter_j(gpus)
                if zeus is not None:
                    zeus.begin_window("load", sync_execution=False)
                for _ in range(rounds):
                    await asyncio.sleep(IDLE_S / 2)
                    await asyncio.to_thread(load, BUSY_S)
                    await asyncio.sleep(IDLE_S / 2)
                window = zeus.end_window("load", sync_execution=False) if zeus is not None else None
                after, end_ns = _counter_j(gpus), time.monotonic_ns()
            await asyncio.sleep(0.5)  # the logs go on behind the window
    epoch = tracker.report().epochs[0]
    return {
        "why": "",
        "whys": whys,
        "gpus": [_text(pynvml.nvmlDeviceGetName(gpu)) for gpu in gpus],
        "load": told,
        "begin_ns": begin_ns,
        "end_ns": end_ns,
        "counter_j": None if before is None or after is None else after - before,
        "ours_j": epoch.it_energy_kwh * J_PER_KWH if epoch.coverage > 0.0 else None,
        "zeus_j": None if window is None else sum(window.gpu_energy.values()),
        "logs": logs,
    }


def _counter_j(gpus: list[Any]) -> float | None:
    """Joules of all GPUs since the driver was loaded; None where one of them has no counter."""
    import pynvml

    try:
        return sum(pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu) for gpu in gpus) / 1e3
    except pynvml.NVMLError:
        return None


def _zeus(whys: dict[str, str]) -> Any:
    try:
        from zeus.monitor import ZeusMonitor

        return ZeusMonitor()
    except ImportError:
        whys[ZEUS] = "not installed: pip install 'aiocarbon[bench]'"
    except Exception as error:  # whatever it does not like here is its own row's affair
        whys[ZEUS] = f"{type(error).__name__}: {error}"
    return None


def _load() -> tuple[Callable[[float], object], str]:
    """What keeps all GPUs busy for some seconds, and in words."""
    if importlib.util.find_spec("torch") is not None:
        import torch

        if torch.cuda.is_available():
            devices = range(torch.cuda.device_count())
            squares = [torch.rand(SIDE, SIDE, device=f"cuda:{i}") for i in devices]

            def multiply(seconds: float) -> None:
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    for square in squares:
                        torch.mm(square, square)
                    for i in devices:
                        torch.cuda.synchronize(i)

            return multiply, f"matrices of {SIDE} x {SIDE} multiplied for {BUSY_S:g} s of every {BUSY_S + IDLE_S:g}"
    return time.sleep, "no load of ours: torch with CUDA is not installed"


@contextmanager
def _logged(command: tuple[str, ...], parse: Callable[[str, int], tuple[int, Sample]], log: Log) -> Iterator[None]:
    """Have a program write powers into a log while the block lasts."""

    def read(lines: Any) -> None:
        for line in lines:
            with suppress(ValueError):  # a header, a GPU that tells no power
                index, sample = parse(line, time.monotonic_ns())
                log.setdefault(index, []).append(sample)

    with ThreadPoolExecutor(1) as pool, subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        pool.submit(read, program.stdout)
        try:
            yield
        finally:
            program.terminate()


def _stamped(line: str, _: int) -> tuple[int, Sample]:
    t_ns, index, watts = line.split()
    return int(index), (int(t_ns), float(watts))


def _of_smi(line: str, now_ns: int) -> tuple[int, Sample]:
    index, _, watts = line.partition(",")
    return int(index), (now_ns, float(watts))


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name
