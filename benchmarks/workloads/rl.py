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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from aiocarbon import ConfigError, Tracker, UsageError
from benchmarks.workloads.ahead import Ahead, ahead
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
    plan = plan_of(args)
    try:
        tracker = _tracker(args, plan)
        teller = Teller(tracker, plan, updates_of(args.earlier, plan))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return MISUSED
    return trained(args, plan, tracker, Training(plan, tracker, make=make, evaluated=teller), teller)


class Run(Protocol):
    """A training, in this process or on a cluster."""

    progress: Progress

    async def run(self) -> bool:
        """Train; whether the target was reached."""


def trained(args: argparse.Namespace, plan: Plan, tracker: Any, training: Run, teller: Teller) -> int:
    """Train, and print the costs however it ends; the exit code."""
    try:
        is_reached = asyncio.run(train(tracker, training))
        code = 0 if is_reached else FAILED
    except KeyboardInterrupt:
        code = INTERRUPTED
    finally:  # also when an actor failed: what was used was used
        _end(args, plan, tracker, training.progress, teller)
    print({0: "", FAILED: "FAILED: the target was not reached", INTERRUPTED: "interrupted"}[code])
    return code


async def train(tracker: Any, training: Run) -> bool:
    """Train inside a tracker; whether the target was reached."""
    async with tracker:
        return await training.run()


def plan_of(args: argparse.Namespace) -> Plan:
    """What shall be done."""
    return Plan(
        actors=args.actors,
        updates=args.updates,
        every=args.every,
        target=None if args.all_updates else args.target,
        seed=args.seed,
    )


def _tracker(args: argparse.Namespace, plan: Plan) -> Tracker | Untracked:
    if args.no_tracker:
        return Untracked()
    split = None if args.floor_w is None else f"even,floor_w={args.floor_w}"
    asked = {"meters": args.meters, "scope": args.scope, "attribution": split, "journal": args.journal}
    given: dict[str, Any] = {field: value for field, value in asked.items() if value is not None}
    # An epoch is what lies between two evaluations. The most there may be are declared: so much is predicted at most.
    return Tracker(name="cartpole", epochs=plan.evaluations, **given)


@dataclass(frozen=True, slots=True)
class Told:
    """What was said after an evaluation.

    Attributes:
        learnt: Updates that had made the policy.
        used_j: Energy used by then, with PUE counted, joules.
        ahead: What was still to come.
    """

    learnt: int
    used_j: float
    ahead: Ahead


class Teller:
    """Prints a line for each evaluation: how well the policy plays, what was used, and what is still to come.

    Attributes:
        told: What was said of what is to come.
        used_j: Tells what was used so far, with PUE counted, joules; None where nothing is known.
    """

    def __init__(self, tracker: Any, plan: Plan, earlier: Sequence[float]) -> None:
        self.told: list[Told] = []
        self.used_j: Callable[[], float | None] = self._reported_j
        self._tracker = tracker
        self._plan = plan
        self._earlier = earlier

    def __call__(self, progress: Progress) -> None:
        """Tell of the newest evaluation."""
        last, plan = progress.evaluations[-1], self._plan
        line = f"update {last.version:4}  return {last.mean_return:5.1f}"
        if (used_j := self.used_j()) is not None:
            line += f"  {amount(used_j)} used"
            prediction = self._tracker.prediction
            known = ahead(prediction, learnt=last.version, updates=plan.updates, earlier=self._earlier)
            if known is not None and plan.target is not None and not progress.has_reached(plan.target):
                self.told.append(Told(last.version, used_j, known))
                line += f"; {known.to_text(plan.target)}"
        print(line, flush=True)

    def _reported_j(self) -> float | None:
        report = _report(self._tracker)
        return None if report is None or report.coverage == 0.0 else report.energy_kwh * J_PER_KWH

    def hindsight(self, energy_j: float) -> str:
        """How right the first range was, once the target is reached; empty where none was told."""
        for told in self.told:
            low_j, high_j = told.ahead.low_j, told.ahead.high_j
            if low_j is not None and high_j is not None:
                range_ = f"{amount(low_j)} to {amount(high_j)} more ({told.ahead.chance:.0%})"
                return f"told after update {told.learnt}: {range_}; it took {amount(energy_j - told.used_j)}"
        return ""


def _end(args: argparse.Namespace, plan: Plan, tracker: Any, progress: Progress, teller: Teller) -> None:
    """Print what was done and what it cost, and write the result."""
    result = _result(plan, progress)
    mean = "unknown" if progress.mean_return is None else f"{progress.mean_return:.1f}"
    print(
        f"\nmean return of the last 100 episodes: {mean}; {progress.learnt} updates by policies "
        f"{result['mean_age']:.1f} updates old, {result['environment_steps']:,} environment steps in "
        f"{progress.seconds:.1f} s: {result['environment_steps_per_s']:,.0f} a second"
    )
    report = _report(tracker)
    if report is not None:
        result |= _told(report, result["environment_steps"])
        result["told"] = [asdict(told) for told in teller.told]
        if result["updates_to_target"] is not None and (line := teller.hindsight(report.energy_kwh * J_PER_KWH)):
            print(line)
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


def _told(report: RunReport, environment_steps: int) -> dict[str, Any]:
    """Print the table; what the result holds of it."""
    found = costs(report, environment_steps)
    if report.coverage > 0.0:
        facility = amount(report.energy_kwh * J_PER_KWH)
        print(f"\n{table(found)}")
        mg = report.co2eq_g * 1000
        print(f"the training with PUE {report.pue.value:g}: {facility}, {mg:.3g} mg CO2eq; basis: {report.basis}")
    else:
        print("\nnothing was measured: `aiocarbon doctor` tells why")
    for warning in report.warnings:
        print(f"note: {warning}")
    return {"add_up": found.add_up, "report": report.to_dict()}


def _report(tracker: Any) -> RunReport | None:
    """What was measured; None where nothing was, also because the tracker was never entered."""
    if isinstance(tracker, Untracked):
        return None
    try:
        report: RunReport = tracker.report()
        return report
    except UsageError:
        return None


def _result(plan: Plan, progress: Progress) -> dict[str, Any]:
    steps = sum(progress.environment_steps)
    is_reached = plan.target is not None and progress.has_reached(plan.target)
    return {
        "seed": plan.seed,
        "actors": plan.actors,
        "target": plan.target,
        "updates": progress.learnt,
        "updates_to_target": progress.evaluations[-1].version if is_reached else None,
        "returns": [[e.version, e.mean_return] for e in progress.evaluations],
        "environment_steps": steps,
        "seconds": progress.seconds,
        "cpu_s": progress.cpu_s,
        "environment_steps_per_s": steps / progress.seconds if progress.seconds else 0.0,
        "mean_age": progress.age / progress.learnt if progress.learnt else 0.0,
    }


def updates_of(files: Sequence[Path], plan: Plan) -> list[float]:
    """Updates that earlier trainings needed; infinite for those that did not reach the target.

    Raises:
        ConfigError: A file is no result, or one of another task.
    """
    found = []
    for path in files:
        try:
            result = json.loads(path.read_text())
            needed, of = result["updates_to_target"], (result["target"], result["actors"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError("earlier", str(path), "a file that --json wrote") from error
        if of != (plan.target, plan.actors):
            raise ConfigError("earlier", str(path), f"a result with target {plan.target} and {plan.actors} actors")
        found.append(math.inf if needed is None else needed)
    return found


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    found = parser("python -m benchmarks.workloads.rl", (__doc__ or "").strip())
    found.add_argument("--scope", help="whose energy: machine, process, cgroup (default: machine)")
    return checked(found, argv)


def parser(prog: str, description: str) -> argparse.ArgumentParser:
    """The arguments that the training in one process and the one on Ray have in common."""
    plan = Plan()
    parser = argparse.ArgumentParser(prog=prog, description=description)
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
    return parser


def checked(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Arguments that a training can do something with."""
    args = parser.parse_args(argv)
    if args.actors < 1 or args.updates < 1 or args.every < 1:
        parser.error("--actors, --updates and --every are at least 1")
    return args


if __name__ == "__main__":
    raise SystemExit(main())
