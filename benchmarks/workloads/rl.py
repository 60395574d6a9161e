"""`python -m benchmarks.workloads.rl`: train, say what it will cost until the target, and what each part used.

`--no-tracker` does the same without the instrument, to compare the environment steps a second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiocarbon import ConfigError, Tracker, UsageError
from benchmarks.workloads.ahead import ahead
from benchmarks.workloads.cartpole import MAX_STEPS, CartPole
from benchmarks.workloads.costs import J_PER_KWH, amount, costs, table
from benchmarks.workloads.training import MakeEnvironment, Plan, Progress, Training, Untracked

if TYPE_CHECKING:
    from aiocarbon._core.report import RunReport

FAILED = 1
MISUSED = 2
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None, *, make: MakeEnvironment = CartPole) -> int:
    """Train, and print the costs however it ends.

    Args:
        argv: Arguments of the command.
        make: Makes an actor's environments.

    Returns:
        0; 1 if the target was not reached, 2 if an argument is not accepted, 130 after Ctrl-C.
    """
    args = _arguments(argv)
    plan = Plan(
        actors=args.actors,
        updates=args.updates,
        every=args.every,
        target=None if args.all_updates else args.target,
        seed=args.seed,
    )
    try:
        tracker = _tracker(args, plan)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return MISUSED
    training = Training(plan, tracker, make=make, evaluated=_teller(tracker, plan, _updates_of(args.earlier)))
    try:
        is_reached = asyncio.run(_train(tracker, training))
        code = 0 if is_reached else FAILED
    except KeyboardInterrupt:
        code = INTERRUPTED
    finally:  # also when an actor failed: what was used was used
        _end(args, plan, tracker, training.progress)
    print({0: "", FAILED: "FAILED: the target was not reached", INTERRUPTED: "interrupted"}[code])
    return code


async def _train(tracker: Tracker | Untracked, training: Training) -> bool:
    async with tracker:
        return await training.run()


def _tracker(args: argparse.Namespace, plan: Plan) -> Tracker | Untracked:
    if args.no_tracker:
        return Untracked()
    given: dict[str, Any] = {"meters": args.meters, "journal": args.journal}
    if args.floor_w is not None:
        given["attribution"] = f"even,floor_w={args.floor_w}"
    # An epoch is what lies between two evaluations. The most there may be are declared: so much is predicted at most.
    return Tracker(name="cartpole", epochs=plan.evaluations, **given)


def _teller(tracker: Tracker | Untracked, plan: Plan, earlier: Sequence[float]) -> Callable[[Progress], None]:
    """Prints a line for each evaluation."""

    def tell(progress: Progress) -> None:
        last = progress.evaluations[-1]
        line = f"update {last.version:4}  return {last.mean_return:5.1f}"
        if isinstance(tracker, Tracker) and (report := tracker.report()).coverage > 0.0:
            line += f"  {amount(report.energy_kwh * J_PER_KWH)} used"
            known = ahead(tracker.prediction, learnt=last.version, updates=plan.updates, earlier=earlier)
            if known is not None and plan.target is not None:
                line += f"; {known.to_text(plan.target)}"
        print(line, flush=True)

    return tell


def _end(args: argparse.Namespace, plan: Plan, tracker: Tracker | Untracked, progress: Progress) -> None:
    result = _result(plan, progress)
    mean = "unknown" if progress.mean_return is None else f"{progress.mean_return:.1f}"
    print(
        f"\nmean return of the last 100 episodes: {mean}; {progress.learnt} updates by policies "
        f"{result['mean_age']:.1f} updates old, {result['environment_steps']:,} environment steps in "
        f"{progress.seconds:.1f} s: {result['environment_steps_per_s']:,.0f} a second"
    )
    report = _report(tracker)
    if report is not None and report.coverage == 0.0:
        print("\nnothing was measured: `aiocarbon doctor` tells why")
    elif report is not None:
        found = costs(report, result["environment_steps"])
        print(f"\n{table(found)}")
        facility = amount(report.energy_kwh * J_PER_KWH)
        print(f"with PUE {report.pue.value:g}: {facility}, {report.co2eq_g * 1000:.3g} mg CO2eq; basis: {report.basis}")
        result |= {"add_up": found.add_up, "report": report.to_dict()}
    for warning in report.warnings if report is not None else ():
        print(f"note: {warning}")
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


def _report(tracker: Tracker | Untracked) -> RunReport | None:
    """What was measured; None where nothing was, also because the tracker was never entered."""
    if isinstance(tracker, Untracked):
        return None
    try:
        return tracker.report()
    except UsageError:
        return None


def _result(plan: Plan, progress: Progress) -> dict[str, Any]:
    steps = sum(progress.environment_steps)
    mean = progress.mean_return
    is_reached = plan.target is not None and mean is not None and mean >= plan.target
    return {
        "seed": plan.seed,
        "actors": plan.actors,
        "target": plan.target,
        "updates": progress.learnt,
        "updates_to_target": progress.evaluations[-1].version if is_reached else None,
        "returns": [[e.version, e.mean_return] for e in progress.evaluations],
        "environment_steps": steps,
        "seconds": progress.seconds,
        "environment_steps_per_s": steps / progress.seconds if progress.seconds else 0.0,
        "mean_age": progress.age / progress.learnt if progress.learnt else 0.0,
    }


def _updates_of(files: Sequence[Path]) -> list[float]:
    """Updates that earlier trainings needed; infinite for those that did not reach the target."""
    found = [json.loads(path.read_text())["updates_to_target"] for path in files]
    return [math.inf if updates is None else updates for updates in found]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    plan = Plan()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workloads.rl", description=(__doc__ or "").strip())
    parser.add_argument("--actors", type=int, default=plan.actors, help="rollout actors (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=plan.seed)
    parser.add_argument(
        "--target", type=float, default=plan.target, help=f"mean return wanted, 1 to {MAX_STEPS} (default: %(default)s)"
    )
    parser.add_argument("--updates", type=int, default=plan.updates, help="at most (default: %(default)s)")
    parser.add_argument("--every", type=int, default=plan.every, help="updates per evaluation (default: %(default)s)")
    parser.add_argument("--all-updates", action="store_true", help="go on whatever the return: to compare speeds")
    parser.add_argument("--earlier", type=Path, nargs="*", default=[], metavar="FILE", help="results of other seeds")
    parser.add_argument("--floor-w", type=float, help="the machine's idle power in watts, if you know it")
    parser.add_argument("--meters", help="as of Tracker: simulated:250")
    parser.add_argument("--journal", type=Path, help="folder of the tracker's journal")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result")
    parser.add_argument("--no-tracker", action="store_true", help="the same without the instrument")
    args = parser.parse_args(argv)
    if args.actors < 1 or args.updates < 1 or args.every < 1:
        parser.error("--actors, --updates and --every are at least 1")
    return args


if __name__ == "__main__":
    raise SystemExit(main())
