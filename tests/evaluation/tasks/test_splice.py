from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cislens.errors import CislensError
from cislens.evaluation.tasks.splice import CLASSES
from cislens.genome.codes import decode, encode, reverse_complement
from cislens.genome.reference import open_genome
from cislens.randomness import generator

REACH = 30


@pytest.fixture
def genes(tmp_path: Path) -> tuple[Path, Path]:
    """Forty genes of three exons on either strand, introns GT...AG but for one that is GC...AG;
    every gene is there twice, as two transcripts."""
    bases = list(decode(generator("splice").integers(0, 4, 60_000).astype(np.uint8)))
    lines = []
    for gene in range(40):
        start, strand = 700 + 1450 * gene, "+-"[gene % 2]
        exons = [(0, 200), (500, 700), (1000, 1200)]
        for left, right in ((200, 500), (700, 1000)):
            donor = "GC" if (gene, left) == (4, 200) else "GT"
            pairs = (donor, "AG") if strand == "+" else ("CT", decode(
                reverse_complement(encode(donor))))  # fmt: skip
            bases[start + left : start + left + 2] = pairs[0]
            bases[start + right - 2 : start + right] = pairs[1]
        for transcript in "ab":
            for first, last in exons:
                text = f'gene_id "g{gene}"; transcript_id "g{gene}{transcript}";'
                lines.append("\t".join(map(str, (
                    "1", "x", "exon", start + first + 1, start + last, ".", strand, ".", text,
                ))))  # fmt: skip
    (tmp_path / "genome.fa").write_text(f">chr1\n{''.join(bases)}\n")
    (tmp_path / "genes.gtf").write_text("\n".join(lines) + "\n")
    return tmp_path / "genome.fa", tmp_path / "genes.gtf"


def build(make: Callable[..., Any], genes: tuple[Path, Path], **fields: Any) -> Any:
    genome, gtf = map(str, genes)
    return make("splice", genome=genome, genes=gtf, split="anew", reach=REACH, **fields)


def test_sites_and_decoys_have_the_same_two_bases(
    make: Callable[..., Any], genes: tuple[Path, Path]
) -> None:
    task = build(make, genes)
    assert (task.card.kind, task.card.target.classes) == ("multiclass", CLASSES)
    assert task.card.stranded and task.card.block == "gene"
    assert task.card.report["sites that are not GT or AG"] == 1
    found = Counter(int(y[0]) for y in task.examples["y"])
    assert (found[0], found[1]) == (79, 80)  # both introns of forty genes, but for one GC
    assert found[2] == task.card.report["decoys"] == pytest.approx(159, abs=3)
    for row in task.examples.iter_rows(named=True):
        donor = row["sequence"][REACH : REACH + 2] == "GT"
        acceptor = row["sequence"][REACH - 2 : REACH] == "AG"
        assert {0: donor, 1: acceptor, 2: donor or acceptor}[int(row["y"][0])]
    assert set(task.examples["strand"]) == {"+", "-"}


def test_decoys_are_not_sites_and_lie_in_the_gene(
    make: Callable[..., Any], genes: tuple[Path, Path]
) -> None:
    frame = build(make, genes).examples.with_columns(
        boundary=pl.col("start") + REACH, label=pl.col("y").list.first()
    )
    decoys, sites = frame.filter(pl.col("label") == 2), frame.filter(pl.col("label") < 2)
    keys = ["boundary", "strand"]
    assert decoys.join(sites, on=keys).is_empty()
    gene = (decoys["boundary"] - 700) // 1450
    offset = decoys["boundary"] - 700 - 1450 * gene
    assert ((offset >= 0) & (offset <= 1200)).all()
    strands = frame.group_by("block_id").agg(
        pl.col("strand").n_unique(), pl.col("split").n_unique()
    )
    assert (strands["strand"] == 1).all() and (strands["split"] == 1).all()
    assert len(strands) == 40


def test_the_sequence_is_read_on_the_strand_of_the_gene(
    make: Callable[..., Any], genes: tuple[Path, Path]
) -> None:
    genome = open_genome(genes[0])
    for row in build(make, genes).examples.iter_rows(named=True):
        codes = genome.fetch("chr1", row["start"], row["end"])
        assert row["sequence"] == decode(
            reverse_complement(codes) if row["strand"] == "-" else codes
        )


def test_donors_alone_are_a_binary_task(make: Callable[..., Any], genes: tuple[Path, Path]) -> None:
    task = build(make, genes, binary="donor", decoys=2)
    assert (task.card.kind, task.card.target.names) == ("binary", ["donor"])
    found = Counter(y[0] for y in task.examples["y"])
    assert found[1.0] == 79 and found[0.0] == pytest.approx(158, abs=2)
    assert (task.examples["sequence"].str.slice(REACH, 2) == "GT").all()


def test_an_annotation_without_introns_is_refused(
    make: Callable[..., Any], genes: tuple[Path, Path]
) -> None:
    text = genes[1].read_text().splitlines()
    genes[1].write_text("\n".join(text[::6]) + "\n")
    with pytest.raises(CislensError, match="has no intron"):
        build(make, genes)


@pytest.mark.parametrize("columns", [(3, 4), (3,)])
@pytest.mark.parametrize("shift", [-1, 1])
def test_an_annotation_that_is_off_by_one_is_refused(
    make: Callable[..., Any], genes: tuple[Path, Path], shift: int, columns: tuple[int, ...]
) -> None:
    moved = []
    for text in genes[1].read_text().splitlines():
        fields = text.split("\t")
        for column in columns:
            fields[column] = str(int(fields[column]) + shift)
        moved.append("\t".join(fields))
    genes[1].write_text("\n".join(moved) + "\n")
    with pytest.raises(CislensError, match=rf"moved by \{-shift:+d} bp.*off by one"):
        build(make, genes)


def test_an_annotation_of_another_assembly_is_refused(
    make: Callable[..., Any], genes: tuple[Path, Path]
) -> None:
    bases = decode(generator("other").integers(0, 4, 60_000).astype(np.uint8))
    genes[0].write_text(f">chr1\n{bases}\n")
    with pytest.raises(CislensError, match=r"donors read GT .*another assembly or strand"):
        build(make, genes)


def test_decoys_keep_away_from_sites_and_are_alike_in_gc(
    make: Callable[..., Any], genes: tuple[Path, Path]
) -> None:
    plain = build(make, genes)
    task = build(make, genes, apart=20, alike=True)
    frames = [
        each.examples.with_columns(boundary=pl.col("start") + REACH, label=pl.col("y").list.first())
        for each in (plain, task)
    ]
    sites = np.array([700 + 1450 * gene + at for gene in range(40) for at in (200, 500, 700, 1000)])
    gaps = [
        np.abs(frame.filter(label=2)["boundary"].to_numpy()[:, None] - sites).min()
        for frame in frames
    ]
    assert gaps[0] < 20 <= gaps[1]
    spread = [
        abs(frame.filter(label=2)["gc"].sort() - frame.filter(pl.col("label") < 2)["gc"].sort()[
            : frame.filter(label=2).height]).mean() for frame in frames
    ]  # fmt: skip
    assert spread[1] < spread[0] / 2  # type: ignore[operator]
    assert abs(task.card.report["standardized difference of gc"]) < 0.1


def test_annotations_of_several_files_are_one(
    make: Callable[..., Any], genes: tuple[Path, Path], tmp_path: Path
) -> None:
    lines = genes[1].read_text().splitlines()
    for name, part in (("one.gtf", lines[:120]), ("two.gtf", lines[120:])):
        (tmp_path / name).write_text("\n".join(part) + "\n")
    several = make(
        "splice", genome=str(genes[0]), split="anew", reach=REACH,
        genes=[str(tmp_path / "one.gtf"), str(tmp_path / "two.gtf")],
    )  # fmt: skip
    whole = build(make, genes)
    sites = [
        set(task.examples.filter(pl.col("y").list.first() < 2)["sequence"])
        for task in (several, whole)
    ]
    assert sites[0] == sites[1]
    assert [file.role for file in several.card.files] == ["genome", "genes.1", "genes.2"]
