"""Binding sites: of transcription factors, of RNA-binding proteins, and against shuffles."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cislens.errors import CislensError
from cislens.evaluation.tasks.rbp import rbp_sites
from cislens.evaluation.tasks.shuffled import shuffled_twin
from cislens.evaluation.tasks.tfbs import binding
from cislens.example import example_path
from cislens.genome.codes import decode, reverse_complement
from cislens.genome.reference import Genome

Make = Callable[..., Any]


def at(centers: np.ndarray, chrom: str = "chr1") -> pl.DataFrame:
    return pl.DataFrame({"chrom": chrom, "start": centers - 20, "end": centers + 20})


def test_a_window_is_labelled_with_every_factor_whose_summit_it_holds(genome: Genome) -> None:
    places = np.arange(500, 59_000, 900)
    one, two = at(places[::2]), at(np.sort(np.concatenate([places[1::2], places[::4] + 30])))
    task = binding(genome, {"one": one, "two": two}, name="t", species="s", width=200)
    assert (task.card.kind, task.card.target.names) == ("multilabel", ["one", "two"])
    for row in task.examples.iter_rows(named=True):
        inside = [
            float(
                ((table["start"] + 20 >= row["start"]) & (table["start"] + 20 < row["end"])).any()
            )
            for table in (one, two)
        ]
        assert row["y"] == inside
    kinds = Counter(map(tuple, task.examples["y"].to_list()))
    background = kinds.pop((0.0, 0.0))
    assert kinds == {(1.0, 1.0): 17, (1.0, 0.0): 16, (0.0, 1.0): 32}
    assert 60 <= background <= 65
    assert abs(task.card.report["standardized difference of gc"]) < 0.1  # type: ignore[arg-type]


def test_peaks_of_one_name_with_the_offset_of_their_summit(
    make: Make, write: Callable[..., Path], genome: Genome
) -> None:
    rows = [
        ("chr1", start, start + 50, ("K562|CTCF", "K562|MAX")[n % 2], 10 + n, 5)
        for n, start in enumerate(range(400, 59_000, 450))
    ]
    peaks = str(write("peaks.bed", *rows))
    fields = {"genome": str(genome.path), "peaks": peaks, "split": "anew", "width": 100}
    task = make("tfbs", **fields, named="K562|CTCF", summit="column_6")
    positives = task.examples.filter(pl.col("y").list.first() == 1)
    assert set(positives["start"] + 50) == {row[1] + 5 for row in rows[::2]}
    assert {file.role for file in task.card.files} == {"genome", "peaks"}
    with pytest.raises(CislensError, match=r"no peak named 'K562.CTFC'. Did you mean 'K562.CTCF'"):
        make("tfbs", **fields, named="K562|CTFC")
    with pytest.raises(CislensError, match=r"no column 'summit_offset' of summit offsets"):
        make("tfbs", **fields, summit="summit_offset")


@pytest.fixture
def transcripts() -> pl.DataFrame:
    """Twenty genes of 2.5 kb, alternately on either strand."""
    starts = np.arange(1000, 58_000, 2850)
    return pl.DataFrame({
        "chrom": "chr1", "start": starts, "end": starts + 2500,
        "name": [f"g{n}" for n in range(len(starts))],
        "strand": ["+-"[n % 2] for n in range(len(starts))], "gene_type": "",
    })  # fmt: skip


def test_negatives_of_an_rbp_are_of_the_same_gene_and_strand(
    genome: Genome, transcripts: pl.DataFrame
) -> None:
    genes = transcripts.to_dicts()
    sites = pl.DataFrame([
        {"chrom": "chr1", "start": gene["start"] + offset, "end": gene["start"] + offset + 30,
         "strand": gene["strand"]}
        for gene in genes for offset in (300, 1200, 2000)
    ])  # fmt: skip
    stray = pl.DataFrame({"chrom": ["chr2"], "start": [500], "end": [530], "strand": ["+"]})
    task = rbp_sites(
        genome, pl.concat([sites, stray]), transcripts, name="t", species="s", width=100
    )
    frame, report = task.examples, task.card.report
    assert task.card.stranded and task.card.block == "gene"
    assert report["sites outside every gene of their strand"] == 1
    assert abs(report["standardized difference of gc"]) <= 0.1  # type: ignore[arg-type]
    by_name = {f"chr1:{gene['name']}": gene for gene in genes}
    for row in frame.iter_rows(named=True):
        gene = by_name[row["block_id"]]
        assert row["strand"] == gene["strand"]
        assert gene["start"] <= row["start"] and row["end"] <= gene["end"]
        codes = genome.fetch(row["chrom"], row["start"], row["end"])
        expected = reverse_complement(codes) if row["strand"] == "-" else codes
        assert row["sequence"] == decode(expected)
        near = ((sites["start"] - 100 < row["end"]) & (sites["end"] + 100 > row["start"])).any()
        assert near == (row["y"] == [1.0])
    shares = frame.group_by("block_id").agg(pl.col("y").list.first().mean())
    assert (shares["y"] == 0.5).all()
    assert (frame.group_by("block_id").agg(pl.col("split").n_unique())["split"] == 1).all()


def test_sites_without_a_strand_are_refused(genome: Genome, transcripts: pl.DataFrame) -> None:
    bare = pl.DataFrame({"chrom": ["chr1"], "start": [1300], "end": [1330], "strand": ["."]})
    with pytest.raises(CislensError, match="need a strand"):
        rbp_sites(genome, bare, transcripts, name="t", species="s")
    wrong = bare.with_columns(strand=pl.lit("-"))
    with pytest.raises(CislensError, match="no site lies in a gene of its strand"):
        rbp_sites(genome, wrong, transcripts.head(1), name="t", species="s")


def kmers(text: str, k: int) -> Counter[str]:
    return Counter(text[at : at + k] for at in range(len(text) - k + 1))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_shuffled_negatives_keep_their_positives_klets(make: Make, k: int) -> None:
    real = make(
        "tfbs", genome=str(example_path("yeast_mini/sacCer3_II_IV_XVI.fa.gz")), split="anew",
        peaks=str(example_path("yeast_mini/atac_peaks_macs3.narrowPeak.gz")), limit=60, width=120,
    )  # fmt: skip
    task = shuffled_twin(real, k)
    assert (task.card.name, task.card.negatives) == (f"t.shuffled{k}", "shuffled")
    assert real.card.negatives == "genomic"
    rows = {row["example_id"]: row for row in task.examples.iter_rows(named=True)}
    shuffles = {key: row for key, row in rows.items() if key.endswith("/shuffled")}
    assert len(shuffles) == 60 and len(rows) == 120
    for key, row in shuffles.items():
        origin = rows[key.removesuffix("/shuffled")]
        assert (row["y"], origin["y"]) == ([0.0], [1.0])
        assert kmers(row["sequence"], k) == kmers(origin["sequence"], k)
        assert row["sequence"] != origin["sequence"] and row["start"] is None
        assert (row["split"], row["cluster_id"], row["block_id"]) == (
            origin["split"], origin["cluster_id"], origin["block_id"],
        )  # fmt: skip
    assert shuffled_twin(real, k).task_hash == task.task_hash
