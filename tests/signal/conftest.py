"""A toy species: three chromosomes, three tracks, small enough to build many times."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cislens.genome.codes import decode
from cislens.genome.reference import Genome, open_genome
from cislens.signal import plan
from cislens.signal.bigwig import write_bigwig
from cislens.signal.plan import SplitSpec
from cislens.signal.tracks import Track, TrackTable, track_table

CHROM_SIZES = {"chrA": 30_000, "chrB": 6_000, "chrC": 4_100}
UNCALLED = (10_000, 11_400)  # a run of N on chrA


@dataclass
class Toy:
    """Files and settings of a build of 40 windows in 5 units."""

    folder: Path
    genome: Genome
    rows: list[Track] = field(default_factory=list)

    @property
    def tracks(self) -> TrackTable:
        return track_table(self.rows)

    @property
    def genomes(self) -> dict[str, Genome]:
        return {"toy": self.genome}

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "length": 1024,
            "bin_size": 32,
            "crop": 1,
            "margin": 8,
            "split": SplitSpec(valid={"toy": ["chrB"]}, test={"toy": ["chrC"]}),
        }

    def write_counts(self, name: str, counts: dict[str, np.ndarray], sizes: dict[str, int]) -> Path:
        """A count track: bases with 0 are left out, as count tracks do."""
        path = self.folder / name
        at = {chrom: np.flatnonzero(values) for chrom, values in counts.items()}
        chroms = np.concatenate([np.full(places.size, chrom) for chrom, places in at.items()])
        starts = np.concatenate(list(at.values()))
        values = np.concatenate([counts[chrom][places] for chrom, places in at.items()])
        write_bigwig(path, sizes, chroms, starts, starts + 1, values.astype(np.float32))
        return path


def write_fasta(path: Path, sequences: dict[str, str]) -> Path:
    path.write_text("".join(f">{name}\n{bases}\n" for name, bases in sequences.items()))
    return path


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    monkeypatch.setattr(plan, "_UNIT_WINDOWS", 8)
    rng = np.random.default_rng(7)
    bases = {c: rng.integers(0, 4, size).astype(np.uint8) for c, size in CHROM_SIZES.items()}
    bases["chrA"][slice(*UNCALLED)] = 4
    fasta = write_fasta(tmp_path / "toy.fa", {c: decode(codes) for c, codes in bases.items()})
    toy = Toy(tmp_path, open_genome(fasta, "toy"))
    for name, sign, pair, strand in (
        ("plus", 1, "minus", "+"), ("minus", -1, "plus", "-"), ("atac", 1, "", "."),
    ):  # fmt: skip
        counts = {c: sign * rng.poisson(0.4, size) for c, size in CHROM_SIZES.items()}
        file = toy.write_counts(f"{name}.bw", counts, CHROM_SIZES)
        toy.rows.append(
            Track(
                name, str(file), "toy", assay="TEST", strand=strand, strand_pair=pair,
                scale=float(sign), clip=16, clip_mode="soft",
            )
        )  # fmt: skip
    return toy
