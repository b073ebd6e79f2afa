import os
from pathlib import Path

import numpy as np
import pytest
from tests.faults.verbs import (
    BASES,
    BENCH,
    DATA,
    SEQUENCE,
    TRAIN,
    VERBS,
    Undisturbed,
    cislens,
    inside,
    promised,
)

from cislens.randomness import generator
from cislens.signal.bigwig import write_bigwig


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs of every verb, a store and a trained run."""
    folder = tmp_path_factory.mktemp("faults")
    (folder / "genome.fa").write_text(f">chr1\n{BASES}\n")
    starts = np.arange(0, 60_000, 100)
    values = generator("signal").integers(0, 9, len(starts)).astype(np.float32)
    write_bigwig(folder / "a.bw", {"chr1": 60_000}, ["chr1"] * 600, starts, starts + 100, values)
    (folder / "tracks.tsv").write_text("id\tfile\tspecies\na\ta.bw\tyeast\n")
    for name, text in {
        "data": DATA, "sequence": SEQUENCE, "train": TRAIN, "bench": BENCH,
    }.items():  # fmt: skip
        (folder / f"{name}.yaml").write_text(text)
    (folder / "regions.bed").write_text(
        "".join(f"chr1\t{at}\t{at + 512}\n" for at in range(1024, 40_000, 1024))
    )
    rows = [f"chr1\t{at + 1}\t{BASES[at]}\t{'CGTA'['ACGT'.index(BASES[at])]}" for at in
            range(2000, 50_000, 1000)]  # fmt: skip
    (folder / "variants.tsv").write_text("\n".join(["chrom\tpos\tref\talt", *rows, ""]))
    with inside(folder):
        assert cislens("data", "profile", "data.yaml", "--out", "store") == 0
        assert cislens("train", "train.yaml", "--out", "run") == 0
    return folder


@pytest.fixture(scope="session")
def undisturbed(project: Path) -> Undisturbed:
    """By verb: what it leaves, and how often it writes."""
    found = {}
    real = os.fsync
    for name, verb in VERBS.items():
        writes: list[int] = []
        with inside(project), pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", lambda fd, seen=writes: (seen.append(fd), real(fd)))
            out = project / "undisturbed" / name
            assert cislens(*verb.command, "--out", out) == 0
        found[name] = (promised(verb, out), len(writes))
    return found
