"""Small real jobs of every verb that writes, on packaged data, and what they promise to leave.

A job is a command line of `cislens` and the folder it writes. Two runs of a job leave the same
bytes, but for what says how long something took.
"""

import csv
import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cislens.example import example_path
from cislens.genome.codes import decode
from cislens.genome.reference import open_genome
from cislens.randomness import generator

GENOME = str(example_path("yeast_mini/sacCer3_II_IV_XVI.fa.gz"))
DATA = """\
genomes:
  yeast: example:yeast_mini/sacCer3_II_IV_XVI.fa.gz
  fly: example:fly_mini/dm6_chr2L_4_7Mb.fa.gz
tracks: tracks.tsv
length: 1024
stride: 2048
split: {block_bp: 65536}
"""
REGIONS = """\
genome: example:yeast_mini/sacCer3_II_IV_XVI.fa.gz
species: scerevisiae
assembly: sacCer3
cells: {wild-type: {peaks: "example:yeast_mini/atac_peaks_macs3.narrowPeak.gz"}}
width: 128
margin: 16
archetypes: none
motifs: motifs.meme
split: {fractions: {train: 0.7, valid: 0.15, test: 0.15}}
"""
SEQUENCE = """\
genomes:
  yeast: example:yeast_mini/sacCer3_II_IV_XVI.fa.gz
  fly: example:fly_mini/dm6_chr2L_4_7Mb.fa.gz
window: 128
probe: {yeast: "example:yeast_mini/atac_peaks_macs3.narrowPeak.gz"}
"""
TRAIN = """\
store: done/profile/store
model: {preset: space-plus-tiny, dim: 24, stem_dim: 8, depth: 1, heads: 2}
training: {steps: 40, batch_size: 8, validate_every: 8, ema_decay: 0.5}
"""
DISTILL = """\
store: done/sequence/store
model: {preset: findna-plus-tiny, dim: 16, depth: 1}
objective:
  name: distillation
  views: {length: 64, local_length: 32, local_count: 1}
  prototypes: 16
  held_out: 64
  on_collapse: warn
training:
  {steps: 40, batch_size: 8, validate_every: 8, ema_decay: 0.5, learning_rate: 1.0e-3, clip: 1.0}
"""
BENCH = """\
runs: {small: done/train/run}
store: done/profile/store
tasks:
  windows: {kind: windows, species: yeast, width: 256, limit: 300}
  promoters:
    kind: promoters
    species: yeast
    genome: example:yeast_mini/sacCer3_II_IV_XVI.fa.gz
    genes: example:yeast_mini/genes.bed.gz
    width: 256
    limit: 200
settings: {seeds: 2, cnn_steps: 8, kmer: 3, trials: 1, labels: [40], layers: true}
"""


@dataclass(frozen=True)
class Job:
    """One command.

    Attributes:
        out: name of the folder that it writes, in a folder of its own.
        command: arguments of `cislens`, without `--out`; paths are relative to the project.
    """

    name: str
    out: str
    command: tuple[str, ...]


_YEAST = ("--genome", GENOME, "--species", "yeast")
EMBED = ("embed", "--model", "done/train/run", "--bed", "regions.bed", *_YEAST)
VARIANTS = (
    "variants", "done/train/run/model", "variants.tsv", *_YEAST,
    "--background", "300", "--batch-size", "8",
)  # fmt: skip
PREDICT = (
    "predict", "done/train/run/model", *_YEAST,
    "--regions", "stretches.bed", "--format", "bigwig,parquet",
)  # fmt: skip
TWO = ("--engine", "local", "--workers", "2")
# In an order in which each finds what it reads, left by an undisturbed run of one before it.
JOBS = (
    Job("profile", "store", ("data", "profile", "data.yaml")),
    Job("profile-2", "store", ("data", "profile", "data.yaml", *TWO)),
    Job("regions", "store", ("data", "regions", "regions.yaml")),
    Job("sequence", "store", ("data", "sequence", "sequence.yaml")),
    Job("train", "run", ("train", "train.yaml")),
    Job("distill", "run", ("train", "distill.yaml")),
    Job("embed", "store", EMBED),
    Job("embed-2", "store", (*EMBED, *TWO)),
    Job("bench", "bench", ("bench", "bench.yaml")),
    Job("variants", "scored", VARIANTS),
    Job("variants-2", "scored", (*VARIANTS, *TWO)),
    Job("predict", "tracks", PREDICT),
    Job("predict-2", "tracks", (*PREDICT, *TWO)),
)  # fmt: skip


def write_project(folder: Path) -> None:
    """Recipes, tables and intervals that the jobs read."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "data": DATA, "regions": REGIONS, "sequence": SEQUENCE, "train": TRAIN,
        "distill": DISTILL, "bench": BENCH,
    }  # fmt: skip
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    table = pl.read_csv(example_path("tracks.tsv"), separator="\t")
    table = table.filter(pl.col("species") != "human")
    root = example_path("tracks.tsv").parent
    table = table.with_columns(file=pl.lit(f"{root}/") + pl.col("file"))
    table.write_csv(folder / "tracks.tsv", separator="\t")
    (folder / "motifs.meme").write_text(_motifs(24))
    (folder / "regions.bed").write_text(_bed(1500, 1024, "embed"))
    stretches = "".join(
        f"chrIV\t{at}\t{at + 60_000}\n" for at in range(100_000, 1_300_000, 120_000)
    )
    (folder / "stretches.bed").write_text(stretches)
    _write_variants(folder / "variants.tsv", 600)


def _motifs(count: int) -> str:
    import gzip

    with gzip.open(example_path("motifs/JASPAR2026_CORE_fungi.meme.gz"), "rt") as file:
        return "MOTIF".join(file.read().split("MOTIF")[: count + 1])


def _bed(count: int, width: int, name: str) -> str:
    starts = sorted(set(generator(0, name).integers(10_000, 1_400_000, count).tolist()))
    return "".join(f"chrIV\t{at}\t{at + width}\n" for at in starts)


def _write_variants(path: Path, count: int) -> None:
    genome = open_genome(example_path("yeast_mini/sacCer3_II_IV_XVI.fa.gz"), "yeast")
    draw = generator(0, "variants")
    starts = sorted(set(draw.integers(10_000, 1_400_000, count).tolist()))
    with path.open("w", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(["chrom", "pos", "ref", "alt"])
        for at in starts:
            base = decode(genome.fetch("chrIV", at, at + 1)).upper()
            table.writerow(["chrIV", at + 1, base, "ACGT"[("ACGT".index(base) + 1) % 4]])


# What says how long something took, or when.
_TIMED = {
    "seconds", "train_seconds", "device_seconds", "loader_wait_seconds", "loader_wait_share",
    "bases_per_second", "high_water", "wall_s", "bp_per_s",
}  # fmt: skip
_UNPROMISED = (
    "lock",
    "checkpoints/",
    "log.jsonl",
    "performance.parquet",
    "ledger.json",
    "report.html",
)


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every promised file in a folder; files that say times, without them."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or any(f"/{part}" in f"/{name}" for part in _UNPROMISED):
            continue
        found[name] = hashlib.sha256(_promised(path)).hexdigest()
    return found


def _promised(path: Path) -> bytes:
    if path.suffix == ".json":
        return json.dumps(_untimed(json.loads(path.read_text())), sort_keys=True).encode()
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            kept = {name: arrays[name] for name in arrays.files if name not in _TIMED}
        return b"".join(f"{name} {a.dtype} {a.shape}".encode() + a.tobytes() for name, a in
                        sorted(kept.items()))  # fmt: skip
    if path.suffix == ".parquet":
        table = pl.read_parquet(path)
        timed = [name for name in table.columns if name in _TIMED]
        if timed:
            written = io.BytesIO()
            table.drop(timed).write_ipc(written)
            return written.getvalue()
    return path.read_bytes()


def _untimed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _untimed(each) for key, each in value.items() if key not in _TIMED}
    return [_untimed(each) for each in value] if isinstance(value, list) else value
