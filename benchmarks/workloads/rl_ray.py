"""`python -m benchmarks.workloads.rl_ray`: the reinforcement learning of `rl` by actors of Ray, and each part's costs.

`--no-tracker` does the same without the instrument; `--pairs 5` does both in turns and tells what the instrument costs.
Needs the extra ray (`pip install 'aiocarbon[ray]'`). Without `--address` it starts a Ray of its own on this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from aiocarbon import ConfigError
from benchmarks.workloads import rl
from benchmarks.workloads.cartpole import CartPole
from benchmarks.workloads.training import MakeEnvironment, Plan, Untracked
from benchmarks.workloads.training_ray import RayTraining

ROOT: Final = Path(__file__).resolve().parents[2]

T_95: Final = (math.inf, 12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""Student's t of two-sided 95 % by degrees of freedom, up to 10; any table of statistics has it."""


def main(argv: Sequence[str] | None = None, *, make: MakeEnvironment = CartPole) -> int:
    """Train on Ray, and print the costs however it ends.

    Args:
        argv: Arguments of the command.
        make: Makes an actor's environments.

    Returns:
        0; 1 if the target was not reached, 2 if an argument is not accepted, 130 after Ctrl-C.
    """
    args = _arguments(argv)
    plan = rl.plan_of(args)
    try:
        rl.updates_of(args.earlier, plan)
        _tracker(args, plan)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return rl.MISUSED
    import ray

    began_here = not ray.is_initialized()
    if began_here:
        # Workers find this package as the driver does.
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
        ray.init(address=args.address or "local", include_dashboard=False, log_to_driver=False)
    try:
        return _pairs(args, plan, make) if args.pairs else _once(args, plan, make)
    finally:
        if began_here:
            ray.shutdown()


def _once(args: argparse.Namespace, plan: Plan, make: MakeEnvironment) -> int:
    tracker = _tracker(args, plan)
    teller = rl.Teller(tracker, plan, rl.updates_of(args.earlier, plan))
    training = RayTraining(plan, tracker, make=make, evaluated=teller)
    if not args.no_tracker:
        teller.used_j = lambda: training.used_j  # a cluster's report comes every few seconds, its epochs at once
    return rl.trained(args, plan, tracker, training, teller)


def _tracker(args: argparse.Namespace, plan: Plan) -> Any:
    if args.no_tracker:
        return Untracked()
    from aiocarbon.integrations.ray import ClusterTracker

    split = None if args.floor_w is None else f"even,floor_w={args.floor_w}"
    asked = {"meters": args.meters, "attribution": split, "journal": args.journal}
    given: dict[str, Any] = {field: value for field, value in asked.items() if value is not None}
    return ClusterTracker(name="cartpole on Ray", epochs=plan.evaluations, **given)


def _pairs(args: argparse.Namespace, plan: Plan, make: MakeEnvironment) -> int:
    """Train with and without the instrument in turns, and say what it costs of the updates a second.

    Counted from the first update to the last: what goes on before and after is Ray's starting and ending of processes.
    """
    logs = []
    for pair in range(args.pairs):
        speeds = {}
        for is_tracked in (True, False) if pair % 2 else (False, True):
            tracker = _tracker(args, plan) if is_tracked else Untracked()
            training = RayTraining(plan, tracker, make=make)
            asyncio.run(rl.train(tracker, training))
            speeds[is_tracked] = (training.progress.learnt - 1) / training.learning_s
        logs.append(math.log(speeds[True] / speeds[False]))
        print(f"pair {pair + 1}: {speeds[True]:.1f} updates a second with it, {speeds[False]:.1f} without", flush=True)
    mean = statistics.fmean(logs)
    told = f"with the instrument {math.expm1(mean):+.1%} updates a second, {len(logs)} pairs"
    if len(logs) > 1:
        half = T_95[min(len(logs) - 1, len(T_95) - 1)] * statistics.stdev(logs) / math.sqrt(len(logs))
        told += f", 95 % range {math.expm1(mean - half):+.1%} to {math.expm1(mean + half):+.1%}"
    print(told)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = rl.parser("python -m benchmarks.workloads.rl_ray", (__doc__ or "").strip())
    parser.add_argument("--address", help="of a Ray cluster; without it a Ray of its own is started here")
    parser.add_argument("--pairs", type=int, default=0, help="train so often with and without the instrument")
    return rl.checked(parser, argv)


if __name__ == "__main__":
    from benchmarks.workloads.rl_ray import main as run  # so that workers find what is pickled

    raise SystemExit(run())
