"""Folders of results as the verbs write them, planted with known values."""

import json
from pathlib import Path

import numpy as np
import polars as pl

from cislens.example import example_path
from cislens.genome.reference import Genome, open_genome
from cislens.signal.bigwig import write_bigwig
from cislens.signal.tracks import Track, track_table, tracks_text

CHROM, START, BIN, BINS = "chrII", 12_800, 128, 40
END = START + BIN * BINS
HOSTILE = "</script><img src=x onerror=\"document.title='run'\">"
HOSTILE_FILE = "<img src=x onerror=\"document.title='run'\">'&%41"
# Of each gene, exons and the coding part, 0-based half-open.
SPLICED = ("spliced", "+", ((13_000, 13_400), (14_000, 14_600)), (13_200, 14_300))


def yeast() -> Genome:
    return open_genome(example_path("yeast_mini/sacCer3_II_IV_XVI.fa.gz"))


def write_manifest(folder: Path, **values: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps(values))


def bigwig(path: Path, starts: list[int], ends: list[int], values: list[float]) -> Path:
    write_bigwig(
        path, yeast().chrom_sizes, np.full(len(starts), CHROM), np.array(starts), np.array(ends),
        np.array(values, np.float32),
    )  # fmt: skip
    return path


def predicted_folder(folder: Path, name: str = "ATAC") -> Path:
    """Bin i of the one track is predicted as i + 1; it was learned from measured.bw."""
    write_manifest(
        folder, format="cislens predictions", bin_size=BIN, settings={"genome": yeast().digest}
    )
    starts = list(range(START, END, BIN))
    bigwig(folder / "a.bw", starts, [s + BIN for s in starts], [i + 1.0 for i in range(BINS)])
    track = Track("a", "a.bw", "yeast", assay="ATAC", uncovered="zero", description=name)
    frame = track_table([track]).frame.with_columns(measured=pl.lit("measured.bw"))
    (folder / "tracks.tsv").write_text(tracks_text(frame))
    return folder


def measured_track(folder: Path) -> Path:
    """Half of the bases of the first bin have 10 and the others no value."""
    folder.mkdir(parents=True, exist_ok=True)
    return bigwig(folder / "measured.bw", [START], [START + BIN // 2], [10.0])


def hostile_track(folder: Path) -> Path:
    """A bigWig beside the others that a name of a file makes dangerous."""
    return bigwig(folder / f"{HOSTILE_FILE}.bw", [START], [END], [3.0])


def gene_file(folder: Path) -> Path:
    """GTF of a spliced gene and of one with a name that must not run."""
    lines = []
    for name, strand, exons, coding in (
        SPLICED,
        (HOSTILE.replace('"', "'"), "-", ((15_000, 15_300),), (15_000, 15_300)),
    ):
        said = f'gene_id "{name}"; transcript_id "{name}.1";'
        for kind, (start, end) in (*(("exon", exon) for exon in exons), ("CDS", coding)):
            lines.append(f"{CHROM}\tx\t{kind}\t{start + 1}\t{end}\t.\t{strand}\t.\t{said}\n")
    (folder / "genes.gtf").write_text("".join(lines))
    return folder / "genes.gtf"


def attributed_folder(folder: Path) -> Path:
    """Contributions 1, -1, 1, ... of 60 bases."""
    write_manifest(folder, format="cislens attributions", settings={})
    starts = list(range(START, START + 60))
    values = [1.0 if i % 2 == 0 else -1.0 for i in range(60)]
    bigwig(folder / "contributions.bw", starts, [s + 1 for s in starts], values)
    (folder / "regions.bed").write_text(f"{CHROM}\t{START}\t{START + 60}\tpeak\t0\t.\n")
    return folder


def scored_folder(folder: Path) -> Path:
    """A gain of 2 at 1-based 13,000, a loss of 0.5 at 14,000, and a name that must not run."""
    write_manifest(folder, format="cislens-variants", settings={})
    pl.DataFrame(
        {
            "chrom": [CHROM] * 3, "pos": [14_000, 13_000, 16_000], "ref": ["A", "AT", "C"],
            "alt": ["G", "A", "T"], "id": [".", "rs1", HOSTILE], "top_1_score": [-0.5, 2.0, 0.1],
            "top_1_track": ["a", "a", HOSTILE],
        }
    ).write_parquet(folder / "variants.parquet")  # fmt: skip
    return folder
