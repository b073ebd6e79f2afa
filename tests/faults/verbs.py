"""Commands small enough to be broken off again and again, and what they promise to leave."""

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cislens.cli.app import main
from cislens.genome.codes import decode
from cislens.randomness import generator

BASES = decode(generator("faults").integers(0, 4, 60_000).astype(np.uint8))
DATA = """\
genomes: {yeast: genome.fa}
tracks: tracks.tsv
length: 512
split: {block_bp: 1024, fractions: {train: 0.5, valid: 0.25, test: 0.25}}
"""
SEQUENCE = """\
genomes: {yeast: genome.fa}
window: 128
split: {block_bp: 8192, fractions: {train: 0.6, valid: 0.2, test: 0.2}}
"""
TRAIN = """\
store: store
model: {preset: space-plus-tiny, dim: 16, stem_dim: 8, depth: 1, heads: 2}
training: {steps: 4, batch_size: 4, validate_every: 2, ema_decay: 0.5}
"""
BENCH = """\
runs: {small: run}
store: store
tasks: {windows: {kind: windows, species: yeast, width: 256, limit: 60}}
settings: {seeds: 1, cnn: [], kmer: 2, trials: 1}
audit: false
"""


@dataclass(frozen=True)
class Verb:
    """A command, the names of what it promises to leave the same, and what it locks.

    Attributes:
        lock: folder that it holds while it works, beside or below `out`.
    """

    command: tuple[str, ...]
    promised: tuple[str, ...]
    lock: str


GENOME = ("--genome", "genome.fa", "--species", "yeast")
VERBS = {
    "profile": Verb(("data", "profile", "data.yaml"), ("**/*",), "out.partial"),
    "sequence": Verb(("data", "sequence", "sequence.yaml"), ("**/*",), "out.partial"),
    "train": Verb(("train", "train.yaml"), ("metrics.parquet", "model/*"), "out"),
    "embed": Verb(
        ("embed", "--model", "run", "--bed", "regions.bed", *GENOME),
        ("index.parquet", "views/**/*"), "out.partial",
    ),
    "predict": Verb(("predict", "run/model", *GENOME), ("*",), "out/.parts"),
    "variants": Verb(
        ("variants", "run/model", "variants.tsv", *GENOME, "--background", "0"),
        ("variants.parquet", "summary.json"), "out/parts",
    ),
    "bench": Verb(
        ("bench", "bench.yaml"), ("ranks.parquet", "scores.parquet", "verdicts.parquet"), "out"
    ),
}  # fmt: skip


def cislens(*arguments: object) -> int:
    """The exit code of a command."""
    before, sys.argv = sys.argv, ["cislens", *map(str, arguments)]
    try:
        main()
    except SystemExit as stopped:
        return stopped.code if isinstance(stopped.code, int) else 0
    finally:
        sys.argv = before
    return 0


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """The folder as the current one."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def promised(verb: Verb, out: Path) -> dict[str, str]:
    """sha256 of what a verb promises to leave the same."""
    files = {path for pattern in verb.promised for path in out.glob(pattern) if path.is_file()}
    found = {path for path in files if path.name != "lock"}
    assert found
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found
    }


# By verb: what it leaves, and how often it writes.
Undisturbed = dict[str, tuple[dict[str, str], int]]


def refusal(capfd: pytest.CaptureFixture[str]) -> str:
    """The one message of a command that was refused."""
    errors = capfd.readouterr().err
    assert "Traceback" not in errors
    messages = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(messages) == 1, errors
    return messages[0]
