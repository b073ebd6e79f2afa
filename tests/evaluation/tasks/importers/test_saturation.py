from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cislens.errors import CislensError

Make = Callable[..., Any]
HEADER = ("Chrom", "Pos", "Ref", "Alt", "Barcodes", "Coefficient", "pValue", "Element", "Release")
PLACES = {"A": 1000, "B": 2000, "C": 3000, "D": 4000, "E": 5000}  # first base, 1-based


@pytest.fixture
def assay(
    tmp_path: Path, write: Callable[..., Path], library: Callable[..., list[str]]
) -> Callable[..., dict[str, Any]]:
    """Five elements of 80 bp on chr7, three substitutions and a deletion at every base, on two
    releases of the assembly; the fields of a section."""

    def call(sequences: dict[str, str] | None = None, shift: int = 0) -> dict[str, Any]:
        elements = dict(zip(PLACES, library(5, 80), strict=True)) | (sequences or {})
        text = "".join(
            f">{name} hg19:chr7:{PLACES[name]}-{PLACES[name] + 79} (1-based)\n{sequence}\n"
            for name, sequence in elements.items()
        )
        (tmp_path / "elements.fa").write_text(text)
        rng = np.random.default_rng(0)
        rows = []
        for release, offset in (("GRCh37", 0), ("GRCh38", 500)):
            for name, sequence in elements.items():
                for at, base in enumerate(sequence):
                    for alt in "ACGT-".replace(base, ""):
                        barcodes = 5 if at == 3 else 30
                        effect = round(float(rng.normal()), 4)
                        pos = PLACES[name] + at + offset + shift
                        rows.append((7, pos, base, alt, barcodes, effect, 0.1, name, release))
        table = write("satmut.tsv", HEADER, *rows)
        return {
            "table": str(table), "elements": str(tmp_path / "elements.fa"), "release": "GRCh37",
            "train": ["A", "B"], "valid": ["C"], "test": ["D", "E"], "width": 60,
        }  # fmt: skip

    return call


def test_an_element_is_a_block_and_the_variant_is_in_the_middle(
    make: Make, assay: Callable[..., dict[str, Any]]
) -> None:
    fields = assay()
    task = make("saturation", **fields)
    card, frame = task.card, task.examples
    assert (card.kind, card.score_sign, card.block) == ("variant", "signed", "element")
    blocks = frame.group_by("split").agg(pl.col("block_id").unique().sort())
    assert dict(blocks.iter_rows()) == {"train": ["A", "B"], "valid": ["C"], "test": ["D", "E"]}
    assert card.report["variants with fewer than 10 barcodes"] == 4 * 5
    snv = frame.filter((pl.col("ref").str.len_bytes() == 1) & (pl.col("alt").str.len_bytes() == 1))
    for row in snv.iter_rows(named=True):
        assert row["sequence"][30] == row["ref"] and row["alt_sequence"][30] == row["alt"]
        assert row["sequence"][:30] == row["alt_sequence"][:30]
    source = Path(fields["table"]).read_text().splitlines()
    for row in snv.head(50).iter_rows(named=True):
        line = source[row["source_row"] - 1].split("\t")
        assert (row["chrom"], row["pos"], row["ref"]) == ("7", int(line[1]), line[2])
        assert row["y"][0] == pytest.approx(float(line[5]), rel=1e-6)
        assert row["start"] == row["pos"] - 1 - 30


def test_a_variant_that_two_elements_measured_is_there_twice(
    make: Make, assay: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    fields = assay()
    bases = np.full(6000, "N")
    for record in Path(fields.pop("elements")).read_text().split(">")[1:]:
        header, sequence = record.strip().splitlines()
        bases[PLACES[header[0]] - 1 :][:80] = list(sequence)
    genome = tmp_path / "genome.fa"
    genome.write_text(f">chr7\n{''.join(bases)}\n")
    lines = Path(fields["table"]).read_text().splitlines()
    cells = [line.split("\t") for line in lines]
    again = ["\t".join([*row[:7], "A2", row[8]]) for row in cells if row[7] == "A"]
    Path(fields["table"]).write_text("\n".join([*lines, *again]) + "\n")
    fields |= {"genome": str(genome), "train": ["A", "A2", "B"], "deletions": False}
    frame = make("saturation", **fields).examples
    counts = dict(frame["block_id"].value_counts().iter_rows())
    assert counts["A"] == counts["A2"] == 3 * 79
    assert frame["example_id"].str.starts_with("A2/").sum() == 3 * 79


def test_a_deletion_draws_bases_in_from_the_right(
    make: Make, assay: Callable[..., dict[str, Any]]
) -> None:
    frame = make("saturation", **assay()).examples
    deletions = frame.filter(pl.col("ref").str.len_bytes() == 2)
    assert len(deletions) > 100
    for row in deletions.iter_rows(named=True):
        # The first base of an element has none before it, so the one after it stands for it.
        gone = 31 if row["ref"][0] == row["alt"] else 30
        expected = row["sequence"][:gone] + row["sequence"][gone + 1 :]
        assert row["alt_sequence"][:59] == expected
    # Within a run of one base all deletions are the same variant, and only one is kept.
    assert make("saturation", **assay()).card.report["variants that occur more than once"] > 0
    without = make("saturation", **assay(), deletions=False)
    assert without.card.report["insertions and deletions left out"] > 300
    assert without.examples["ref"].str.len_bytes().max() == 1


def test_signed_and_unsigned_effects_are_two_tasks(
    make: Make, assay: Callable[..., dict[str, Any]]
) -> None:
    signed, unsigned = (make("saturation", **assay(), signed=value) for value in (True, False))
    assert (signed.card.score_sign, unsigned.card.score_sign) == ("signed", "unsigned")
    assert signed.task_hash != unsigned.task_hash
    one, other = (np.array(t.examples["y"].to_list()) for t in (signed, unsigned))
    assert (one < 0).any()
    np.testing.assert_array_equal(np.abs(one), other)


def test_an_element_twice_may_not_be_in_two_parts(
    make: Make, assay: Callable[..., dict[str, Any]], library: Callable[..., list[str]]
) -> None:
    copied = assay({"E": library(5, 80)[0]})
    with pytest.raises(
        CislensError, match=r"elements 'A' \(train\) and 'E' \(test\) are homologou"
    ):
        make("saturation", **copied)
    together = {**copied, "train": ["A", "E"], "valid": ["C"], "test": ["B", "D"]}
    assert make("saturation", **together).card.kind == "variant"


def test_mistakes_are_named(make: Make, assay: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(CislensError, match=r"the ref allele of \d+ of .* variants"):
        make("saturation", **assay(shift=1))
    with pytest.raises(CislensError, match=r"no release 'GRCh36'. Did you mean 'GRCh3"):
        make("saturation", **{**assay(), "release": "GRCh36"})
    with pytest.raises(CislensError, match=r"has no element 'Z'"):
        make("saturation", **{**assay(), "test": ["Z"]})
