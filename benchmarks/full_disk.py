"""Let the disk run full under every long job, make room, run it again, and compare what it leaves.

    sudo python benchmarks/full_disk.py --out full

Each job of `soak.py` writes to a file system in memory (tmpfs, which root may mount) that holds a
part of what the job needs. It must end with exit code 2 and one message; with room, the same
command must end with the digests of an undisturbed run.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from soak import apart, ended, import_everything, reference, say, started
from soak_jobs import JOBS, Job, digests, write_project

SHARES = (0.02, 0.25, 0.5, 0.75, 0.95)
_BLOCK = 4096


def main() -> None:
    """Print a line for each job and share, write them as JSON, end with 1 if one went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", nargs="*", default=[job.name for job in JOBS])
    parser.add_argument("--out", type=Path, default=Path("full"))
    given = parser.parse_args()
    project = given.out.resolve()
    import_everything()
    project.mkdir(parents=True, exist_ok=True)
    os.chdir(project)
    apart(lambda: write_project(project))
    tried = []
    for job in JOBS:
        before = reference(job, project)
        for share in SHARES if job.name in given.jobs else ():
            tried.append(filled(job, project, share, before.digests))
            say("  ".join(str(value) for value in tried[-1].values()))
    (project / "full_disk.json").write_text(json.dumps(tried, indent=1) + "\n")
    sys.exit(any(each["lost"] or each["unclear"] for each in tried))


def filled(job: Job, project: Path, share: float, before: dict[str, str]) -> dict[str, object]:
    """Run a job with too little room, then with enough."""
    folder, done = project / "small" / job.name, project / "done" / job.name
    size = sum(_BLOCK + path.stat().st_size for path in done.rglob("*"))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    log = Path(f"{folder}.log")
    log.unlink(missing_ok=True)
    mount("-t", "tmpfs", "-o", f"size={max(2 * _BLOCK, int(size * share))}", "tmpfs", folder)
    try:
        code = ended(started(job, folder))
        lines = log.read_text().splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        clear = code == 0 or (code == 2 and len(errors) == 1 and "Traceback" not in log.read_text())
        mount("-o", "remount,size=1g", folder)
        again = ended(started(job, folder))
        after = apart(lambda: digests(folder))
    finally:
        subprocess.run(["umount", folder], check=True)
    lost = sorted(n for n in before.keys() | after.keys() if before.get(n) != after.get(n))
    return {
        "job": job.name, "share": share, "code": code, "unclear": not clear, "then": again,
        "lost": lost if again == 0 else [f"exit code {again}", *lost],
        "message": errors[0] if errors else (lines or [""])[-1],
    }  # fmt: skip


def mount(*arguments: object) -> None:
    """Mount, or change what is mounted."""
    subprocess.run(["mount", *map(str, arguments)], check=True)


if __name__ == "__main__":
    main()
