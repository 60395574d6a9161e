"""`python -m benchmarks.workloads.power_log`: writes the power of each GPU every 20 ms until it is ended.

A line is the CLOCK_MONOTONIC nanoseconds in the middle of the read, the index of the GPU, and watts.
"""

from __future__ import annotations

import contextlib
import time

PERIOD_S = 0.02


def main() -> None:
    """Write until SIGTERM, or until nobody reads."""
    import pynvml

    pynvml.nvmlInit()
    gpus = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    due = time.monotonic()
    while True:
        for index, gpu in enumerate(gpus):
            before_ns = time.monotonic_ns()
            watts = pynvml.nvmlDeviceGetPowerUsage(gpu) / 1e3
            print((before_ns + time.monotonic_ns()) // 2, index, watts, flush=True)
        due = max(due + PERIOD_S, time.monotonic())
        time.sleep(due - time.monotonic() if due > time.monotonic() else 0.0)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        main()
