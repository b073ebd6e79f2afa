"""Several bench folders to one page: every arm of every bench on the tasks they share."""

from collections.abc import Sequence
from pathlib import Path

from cislens.errors import CislensError
from cislens.evaluation.calibration import calibration
from cislens.evaluation.combined import CombinedSuite
from cislens.evaluation.ranks import ranks
from cislens.evaluation.results import ResultStore
from cislens.evaluation.verdict import arm_scores, verdicts
from cislens.files import require_file
from cislens.report.collect import audits_of
from cislens.report.inputs import ReportInput

TITLE = "Leaderboard"
_NOTES = (
    "Arms of several benches on the tasks that all of them judged, with equal task hashes. All "
    "are paired by test example and seed, and resampled together.",
    "A gain is withheld on a task whose audit in any of the benches found leakage.",
)


def leaderboard(folders: Sequence[Path]) -> ReportInput:
    """What several bench folders say together.

    Raises:
        MissingFileError: if a folder is missing, or is none of a bench.
        CislensError: if two folders share a name, a bench is not complete, or the benches share
            no task.
    """
    names = [folder.resolve().name for folder in folders]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CislensError(f"two bench folders are named {twice[0]!r}; rename one of them.")
    for folder in folders:
        require_file(require_file(folder, "bench folder") / "results" / "plan.json", "bench")
    stores = {
        name: ResultStore(folder / "results") for name, folder in zip(names, folders, strict=True)
    }
    suite = CombinedSuite(stores)
    found = [audit for folder in folders for audit in audits_of(folder / "audits.json")]
    shared = [audit for audit in found if audit["task"] in suite.tasks]
    leaky = {audit["task"] for audit in shared if audit["leakage"] == "fail"}
    return ReportInput(
        title=TITLE,
        verdicts=verdicts(suite, leaky=leaky),
        scores=arm_scores(suite),
        ranks=ranks(suite),
        calibration=calibration(suite),
        audits=list({audit["task"]: audit for audit in shared}.values()),
        manifest={
            "benches": {name: str(folder) for name, folder in zip(names, folders, strict=True)},
            "task hashes": {name: task.task_hash for name, task in suite.tasks.items()},
        },
        notes=_NOTES,
    )
