"""Kill every long job at random moments, start it again, and compare what it leaves.

    python benchmarks/soak.py --kills 100 --out soak

Each job is first run undisturbed. Then, until all kills are spent, it is started into an empty
folder, killed without warning (SIGKILL) up to three times at moments drawn from the seed, and run
to its end; the digests of everything that it promises must be those of the undisturbed run. The
first kill of each such round is drawn from an own part of the job's time, so that together they
cover all of it, its very end included. Time is that of the CPU, which a busy machine does not
stretch.

A job runs in a fork of this process, which has everything imported and has computed nothing: what
is killed is the job and not Python's start. The whole process group is killed, and of a job with
workers every other time one process of it alone.
"""

import argparse
import contextlib
import importlib
import json
import os
import pickle
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from soak_jobs import JOBS, TWO, Job, digests, write_project

from cislens.randomness import generator

KILLS_OF_A_ROUND = 3
# A job may be slower than when it ran undisturbed: kills are drawn up to a little beyond its end.
BEYOND = 1.05
IMPORTED = (
    "cli.app", "effects.tracks", "effects.variants.run", "evaluation.bench", "motifs.build",
    "report.page", "representations.writing", "sequence.build", "signal.build", "training.fit",
)  # fmt: skip

Result = TypeVar("Result")


@dataclass
class Outcome:
    """What became of a job.

    Attributes:
        seconds: of the CPU, that the undisturbed run took.
        kills: that met the job while it ran.
        moments: seconds of the CPU after which it was killed.
        rounds: times that it was killed and then run to its end.
        lost: files that then differed or were missing, or a job that did not end well.
    """

    job: str
    seconds: float
    kills: int = 0
    of_workers: int = 0
    rounds: int = 0
    moments: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def main() -> None:
    """Print a table, write it with every moment as JSON, and end with 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", nargs="*", default=[job.name for job in JOBS])
    parser.add_argument("--signal", choices=["KILL", "INT", "TERM"], default="KILL")
    parser.add_argument("--out", type=Path, default=Path("soak"))
    given = parser.parse_args()
    project = given.out.resolve()
    import_everything()
    project.mkdir(parents=True, exist_ok=True)
    os.chdir(project)
    apart(lambda: write_project(project))
    outcomes = []
    for job in JOBS:
        before = reference(job, project)
        if job.name in given.jobs:
            share = -(-given.kills // len(given.jobs))
            outcomes.append(soaked(job, project, before, share, given))
            say(row(outcomes[-1]))
    found = {"benchmark": "soak", "seed": given.seed, "jobs": [asdict(each) for each in outcomes]}
    (project / "soak.json").write_text(json.dumps(found, indent=1) + "\n")
    kills, lost = (sum(each.kills for each in outcomes), sum(len(o.lost) for o in outcomes))
    say(f"{kills} kills, {sum(each.rounds for each in outcomes)} runs resumed, {lost} files lost")
    sys.exit(1 if lost else 0)


@dataclass(frozen=True)
class Reference:
    """The undisturbed run of a job."""

    seconds: float
    digests: dict[str, str]


def reference(job: Job, project: Path) -> Reference:
    """Run a job undisturbed into `done`, once."""
    folder, kept = project / "done" / job.name, project / "done" / f"{job.name}.json"
    if not kept.exists():
        shutil.rmtree(folder, ignore_errors=True)
        before = sum(os.times()[2:4])
        code = ended(started(job, folder))
        if code != 0:
            raise SystemExit(f"{job.name} ended with {code}; see {folder}.log")
        seconds = sum(os.times()[2:4]) - before
        kept.write_text(json.dumps([seconds, apart(lambda: digests(folder))]))
    return Reference(*json.loads(kept.read_text()))


def soaked(
    job: Job, project: Path, before: Reference, kills: int, given: argparse.Namespace
) -> Outcome:
    """Kill a job so often, in rounds."""
    outcome = Outcome(job.name, round(before.seconds, 2))
    draw = generator(given.seed, "soak", job.name)
    by = signal.Signals[f"SIG{given.signal}"]
    rounds = -(-kills // 2)
    order = draw.permutation(rounds)
    folder = project / "killed" / job.name
    while outcome.kills < kills:
        shutil.rmtree(folder, ignore_errors=True)
        part = (order[outcome.rounds % rounds] + draw.random()) / rounds
        for number in range(KILLS_OF_A_ROUND):
            share = part if number == 0 else draw.random()
            moment = share * before.seconds * BEYOND
            one = bool(draw.integers(2))
            code = killed(job, folder, moment, one, by, outcome)
            if code is not None:
                break
        else:
            code = ended(started(job, folder))
        outcome.rounds += 1
        if code != 0:
            outcome.lost.append(f"round {outcome.rounds}: exit code {code}")
        after = apart(lambda: digests(folder))
        outcome.lost += [
            f"round {outcome.rounds}: {name}"
            for name in sorted(before.digests.keys() | after.keys())
            if before.digests.get(name) != after.get(name)
        ]
        if outcome.lost:
            shutil.move(folder, folder.with_name(f"{job.name}.lost"))
            break
    return outcome


def killed(
    job: Job, folder: Path, moment: float, one: bool, by: signal.Signals, outcome: Outcome
) -> int | None:
    """Start a job and kill it at a moment; its exit code if it ended by itself.

    As a scheduler, SIGTERM meets the first process alone; of it no other may be left then.
    """
    pid = started(job, folder)
    one = one and TWO[-2] in job.command and by is signal.SIGKILL
    while cpu_seconds(pid) < moment or (one and not workers_of(pid)):
        if (code := ended(pid, os.WNOHANG)) is not None:
            return code
        time.sleep(0.002)
    workers = workers_of(pid)[-1:] if one else []
    with contextlib.suppress(ProcessLookupError):  # it ended this very moment
        if workers:
            os.kill(workers[0], by)
        else:
            (os.kill if by is signal.SIGTERM else os.killpg)(pid, by)
    code = ended(pid)
    gone = code in {-by, 130}
    if workers or gone:
        outcome.kills += 1
        outcome.of_workers += len(workers) > 0
        outcome.moments.append(round(moment, 3))
    if left := left_of(pid):
        outcome.lost.append(f"processes that go on: {left}")
    return None if gone else code


def left_of(group: int) -> list[str]:
    """Processes of a group that still work, some seconds after its first has ended."""
    found: list[str] = []
    for _ in range(100):
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                state, _, its = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
                if int(its) == group and state != "Z":
                    found.append((folder / "cmdline").read_text().replace("\0", " "))
        if not found:
            break
        time.sleep(0.1)
    return found


def workers_of(pid: int) -> list[int]:
    """Processes that do a job's units: all that it has started but Python's tracker."""
    found = []
    for child in children(pid):
        with contextlib.suppress(OSError):
            if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
    return found


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def cpu_seconds(pid: int) -> float:
    """Of a process and of those that it started and still has."""
    ticks = 0
    for each in (pid, *children(pid)):
        with contextlib.suppress(OSError):
            values = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, values[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def apart(work: Callable[[], Result]) -> Result:
    """Do it in a fork: threads that libraries start here would be missing in forks of later."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        with os.fdopen(writer, "wb") as pipe:
            pickle.dump(work(), pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        sent = pipe.read()
    if ended(pid) != 0:
        raise SystemExit("a helper process failed; its error is above")
    result: Result = pickle.loads(sent)
    return result


def started(job: Job, folder: Path) -> int:
    """Start a job in a process group of its own; its output goes to `<folder>.log`."""
    folder.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        os.setpgid(pid, pid)
        return pid
    code = 1
    try:
        os.setpgid(0, 0)
        log = os.open(f"{folder}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        del sys.modules["__main__"].__file__  # what workers import is the job, not this script
        sys.argv = ["cislens", *job.command, "--out", str(folder / job.out)]
        from cislens.cli.app import main as cislens

        try:
            cislens()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        except BaseException:
            import traceback

            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def ended(pid: int, flags: int = 0) -> int | None:
    """The exit code of a job, negative for a signal; None while it runs, if that is asked."""
    found, status = os.waitpid(pid, flags)
    return os.waitstatus_to_exitcode(status) if found else None


def import_everything() -> None:
    """What the verbs import when they run, so that a fork of this process begins with its work."""
    for name in IMPORTED:
        importlib.import_module(f"cislens.{name}")


def row(outcome: Outcome) -> str:
    """An outcome as one line."""
    lost = "nothing" if not outcome.lost else f"{len(outcome.lost)}: {outcome.lost[:3]}"
    return (
        f"{outcome.job:<12} {outcome.seconds:6.1f} CPU s undisturbed  {outcome.kills:3d} kills "
        f"({outcome.of_workers} of one worker)  {outcome.rounds:3d} runs resumed  lost {lost}"
    )


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
