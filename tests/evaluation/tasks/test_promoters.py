"""Promoters: where their windows lie, what they are set against, and their TATA boxes."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cislens.errors import CislensError
from cislens.evaluation.tasks.shuffled import REARRANGED, SEGMENTS
from cislens.evaluation.tasks.tss import collapsed, read_promoter_genes, read_starts
from cislens.genome.codes import decode, encode, reverse_complement
from cislens.genome.reference import Genome, open_genome

Make = Callable[..., Any]
STEP = 2000
BOX = "TATAAAAG"


def line(chrom: str, first: int, last: int, strand: str, gene: str, transcript: str) -> str:
    text = f'gene_id "{gene}"; transcript_id "{transcript}";'
    return "\t".join(map(str, (chrom, "x", "exon", first, last, ".", strand, ".", text)))


@pytest.fixture
def gtf(tmp_path: Path) -> Path:
    """Genes of one exon every 2 kb on either strand of both chromosomes: 1-based 1001 to 1500."""
    lines = [
        line(chrom, start + 1, start + 500, "+-"[number % 2], "g", f"{chrom}.{number}")
        for chrom in ("chr1", "chr2")
        for number, start in enumerate(range(1000, 58_000, STEP))
    ]  # fmt: skip
    (tmp_path / "genes.gtf").write_text("\n".join(lines) + "\n")
    return tmp_path / "genes.gtf"


@pytest.fixture
def boxed(genome: Genome, tmp_path: Path) -> Genome:
    """The genome with a TATA box 31 bp upstream of the TSS of every fourth gene of a strand."""
    parts = []
    for chrom in genome.chrom_sizes:
        bases = list(decode(genome.chromosome(chrom)))
        for number, start in enumerate(range(1000, 58_000, STEP)):
            tss = start if number % 2 == 0 else start + 499
            if number % 8 == 0:
                bases[tss - 31 : tss - 23] = BOX
            if number % 8 == 1:
                bases[tss + 24 : tss + 32] = decode(reverse_complement(encode(BOX)))
        parts.append(f">{chrom}\n{''.join(bases)}\n")
    (tmp_path / "boxed.fa").write_text("".join(parts))
    return open_genome(tmp_path / "boxed.fa", "g")


def fields(genome: Genome, gtf: Path, **changes: Any) -> dict[str, Any]:
    return {
        "genome": str(genome.path), "genes": str(gtf), "split": "anew", "width": 300,
        "downstream": 51, "jitter": False, "collapse": 100, **changes,
    }  # fmt: skip


@pytest.mark.parametrize("stranded", [True, False])
def test_windows_lie_from_249_before_to_50_after_the_tss(
    make: Make, genome: Genome, gtf: Path, stranded: bool
) -> None:
    frame = make("promoters", **fields(genome, gtf, stranded=stranded)).examples
    promoters = frame.filter(pl.col("y").list.first() == 1, pl.col("chrom") == "chr1")
    starts = set(promoters["start"])
    # The first gene begins at base 1000 (0-based), the second, on the other strand, at 3499.
    assert {1000 - 249, 3499 - 50} <= starts
    assert (promoters["end"] - promoters["start"] == 300).all()
    expected = set(range(751, 58_000, 2 * STEP)) | set(range(3449, 58_000, 2 * STEP))
    assert starts <= expected and len(starts) >= 25
    for row in promoters.iter_rows(named=True):
        codes = genome.fetch("chr1", row["start"], row["end"])
        plus = (row["start"] - 751) % (2 * STEP) == 0
        tss = row["start"] + (249 if plus else 50)
        base = genome.fetch("chr1", tss, tss + 1)
        if stranded and not plus:
            codes, base = reverse_complement(codes), reverse_complement(base)
        assert row["sequence"] == decode(codes)
        assert row["sequence"][249 if plus or stranded else 50] == decode(base)
        assert row["strand"] == (("+" if plus else "-") if stranded else None)


def test_negatives_of_stranded_promoters_have_both_strands(
    make: Make, genome: Genome, gtf: Path
) -> None:
    frame = make("promoters", **fields(genome, gtf, stranded=True)).examples
    counts = frame.group_by(pl.col("y").list.first(), "strand").len()
    assert len(counts) == 4 and counts["len"].min() >= 20  # type: ignore[operator]


def test_the_short_window_has_seventy_bases(make: Make, genome: Genome, gtf: Path) -> None:
    frame = make("promoters", **fields(genome, gtf, width=70, downstream=36)).examples
    promoters = frame.filter(pl.col("y").list.first() == 1, pl.col("chrom") == "chr1")
    assert set(promoters["start"]) >= {1000 - 34, 3499 - 35}
    assert (frame["length"] == 70).all()


def test_tata_boxes_are_found_on_both_strands_at_their_place(
    make: Make, boxed: Genome, gtf: Path
) -> None:
    task = make("promoters", **fields(boxed, gtf, stranded=True, tata={"p_value": 3e-4}))
    found = task.examples.filter(pl.col("sites").list.len() > 0)
    planted = 16  # of 58 genes; another gene may have one by chance
    assert planted - 1 <= found.height <= planted + 2
    assert task.card.report["promoters with a TATA box"] >= planted
    assert (found["y"].list.first() == 1).all()
    at = Counter(row["start"] for sites in found["sites"] for row in sites)
    assert at[249 - 31] >= planted - 1
    for sequence, sites in found.select("sequence", "sites").iter_rows():
        assert any(
            sequence[s["start"] : s["end"]] == BOX and s["start"] == 218 for s in sites
        ) or len(sites)
    background = task.examples.filter(pl.col("y").list.first() == 0)
    assert background["sites"].null_count() == background.height
    forward = make("promoters", **fields(boxed, gtf, tata={"p_value": 3e-4})).examples
    minus = forward.filter(pl.col("start") == 1000 + STEP + 499 - 50, pl.col("chrom") == "chr1")
    (site,) = minus["sites"][0]
    assert minus["sequence"][0][site["start"] : site["end"]] == decode(
        reverse_complement(encode(BOX))
    )


def test_one_class_of_promoters_may_be_kept(make: Make, boxed: Genome, gtf: Path) -> None:
    settings = fields(boxed, gtf, stranded=True)
    without = make("promoters", **settings, tata={"p_value": 3e-4, "keep": "without"})
    positives = without.examples.filter(pl.col("y").list.first() == 1)
    assert (positives["sites"].list.len() == 0).all()
    assert not (positives["sequence"].str.slice(218, 8) == BOX).any()
    only = make("promoters", **settings, tata={"p_value": 3e-4, "keep": "only"}).examples
    positives = only.filter(pl.col("y").list.first() == 1)
    assert (positives["sequence"].str.slice(218, 8) == BOX).mean() > 0.85  # type: ignore[operator]


def test_open_negatives_keep_away_from_every_tss(
    make: Make, genome: Genome, write: Callable[..., Path], tmp_path: Path
) -> None:
    genes = [("chr1", start, start + 400, f"g{start}", 0, "+-"[start // 700 % 2])
             for start in range(1000, 40_000, 700)]  # fmt: skip
    peaks = [("chr1", start, start + 200) for start in range(500, 41_000, 350)]
    peaks += [("chr2", start, start + 200) for start in range(0, 59_000, 150)]
    peaks += [("chr1", start, start + 200) for start in range(42_000, 59_000, 150)]
    task = make(
        "promoters", genome=str(genome.path), genes=str(write("g.bed", *genes)), split="anew",
        width=150, jitter=False, negatives="accessible", open=str(write("open.bed", *peaks)),
    )  # fmt: skip
    assert task.card.negatives == "accessible"
    label = pl.col("y").list.first()
    negatives = task.examples.filter(label == 0)
    assert negatives.height == task.examples.filter(label == 1).height >= 40
    tss = np.array([row[1] if row[5] == "+" else row[2] - 1 for row in genes])
    assert set(negatives["chrom"]) == {"chr1"}  # where the promoters are
    for start, end in negatives.select("start", "end").iter_rows():
        gap = np.maximum(np.maximum(start - tss, tss - (end - 1)), 0)
        assert gap.min() > 2000
        assert any(c == "chr1" and s <= start + 75 < e for c, s, e in peaks)
    assert abs(task.card.report["standardized difference of gc"]) <= 0.1


def test_open_negatives_that_lie_at_promoters_are_not_enough(
    make: Make, genome: Genome, gtf: Path, write: Callable[..., Path]
) -> None:
    peaks = write("open.bed", *[("chr1", s, s + 200) for s in range(900, 58_000, STEP)])
    with pytest.raises(CislensError, match="no open window is left"):
        make("promoters", **fields(genome, gtf, negatives="accessible", open=str(peaks)))
    with pytest.raises(CislensError, match="accessible negatives, and no others, need `open`"):
        make("promoters", **fields(genome, gtf, negatives="accessible"))


def test_rearranged_segments_keep_composition_and_eight_segments(
    make: Make, genome: Genome, gtf: Path
) -> None:
    task = make("promoters", **fields(genome, gtf, negatives="shuffled"))
    assert task.card.negatives == "shuffled"
    rows = {row["example_id"]: row for row in task.examples.iter_rows(named=True)}
    copies = {key: row for key, row in rows.items() if key.endswith("/shuffled")}
    assert len(copies) == len(rows) // 2
    for key, row in copies.items():
        origin = rows[key.removesuffix("/shuffled")]
        assert Counter(row["sequence"]) == Counter(origin["sequence"])
        size = 300 // SEGMENTS
        same = sum(
            row["sequence"][at : at + size] == origin["sequence"][at : at + size]
            for at in range(0, 300, size)
        )
        assert same == SEGMENTS - REARRANGED
        assert row["split"] == origin["split"]


def test_starts_collapse_to_the_most_supported(tmp_path: Path) -> None:
    rows = [("chr1", first, "+") for first in (100, 150, 150, 201, 400)]
    rows += [("chr1", last, "-") for last in (1000, 1050, 1300)]
    lines = [
        line(chrom, at, at + 500, "+", "g", f"t{n}") if strand == "+"
        else line(chrom, at - 500, at, "-", "h", f"t{n}")
        for n, (chrom, at, strand) in enumerate(rows)
    ]  # fmt: skip
    (tmp_path / "a.gtf").write_text("\n".join(lines) + "\n")
    found = read_promoter_genes([tmp_path / "a.gtf"], 100)
    # 0-based first bases; of 1000 and 1050 on the minus strand 1050 is transcribed first.
    assert found.select("start", "strand", "support").rows() == [
        (149, "+", 2), (399, "+", 1), (1049, "-", 1), (1299, "-", 1),
    ]  # fmt: skip
    apart = collapsed(read_starts(tmp_path / "a.gtf"), 0)
    assert apart.height == 7


def test_a_list_of_starts_in_bed_is_taken_as_it_is(write: Callable[..., Path]) -> None:
    path = write("tss.bed", ("chr1", 10, 11, "a", 0, "+"), ("chr1", 90, 91, "b", 0, "-"))
    assert read_starts(path).select("start", "end", "strand").rows() == [
        (10, 11, "+"), (90, 91, "-"),
    ]  # fmt: skip
