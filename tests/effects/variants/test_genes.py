from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cislens.effects.variants.genes import Starts
from cislens.effects.variants.windows import layout
from cislens.errors import CislensError
from cislens.genome.reference import Genome

WHERE = layout(160, 16, crop=1, step=32)
spans = st.tuples(st.integers(0, 900), st.integers(1, 99), st.sampled_from("+-"))


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    path: Path = tmp_path_factory.mktemp("genome") / "small.fa"
    path.write_text(f">chr1\n{'ACGT' * 250}\n>chr2\n{'ACGT' * 250}\n")
    return Genome(path)


def table(*rows: tuple[str, int, int, str, str]) -> pl.DataFrame:
    columns = {"chrom": str, "start": int, "end": int, "name": str, "strand": str}
    return pl.DataFrame(rows, schema=columns, orient="row")


@given(genes=st.lists(spans, min_size=1, max_size=8), first=st.integers(0, 999))
def test_the_nearest_start_in_the_window_is_found(
    genome: Genome, genes: list[tuple[int, int, str]], first: int
) -> None:
    rows = [("1", s, s + n, f"g{i}", strand) for i, (s, n, strand) in enumerate(genes)]
    starts = Starts.of(table(*rows), genome)
    (start,) = WHERE.starts(np.array([first])).tolist()
    tss = [s if strand == "+" else s + n - 1 for s, n, strand in genes]
    inside = [i for i, at in enumerate(tss) if start + 16 <= at < start + 144]
    best = min(inside, key=lambda i: (abs(tss[i] - first), tss[i], i), default=-1)
    found = starts.nearest(np.array(["chr1"], object), np.array([first]), np.array([start]), WHERE)
    assert found[0].tolist() == [best]
    gene, distance = starts.columns(*found, np.array([first]))
    if best < 0:
        assert gene.to_list() == distance.to_list() == [None]
    else:
        sign = 1 if genes[best][2] == "+" else -1
        assert gene.to_list() == [f"g{best}"]
        assert distance.to_list() == [sign * (first - tss[best])]


def test_a_chromosome_without_genes_has_none_near(genome: Genome) -> None:
    starts = Starts.of(table(("chr1", 10, 20, "x", "+")), genome)
    row, tss = starts.nearest(np.array(["chr2"], object), np.array([10]), np.array([-70]), WHERE)
    assert row.tolist() == tss.tolist() == [-1]


def test_tables_without_genes_of_the_genome_are_refused(genome: Genome) -> None:
    with pytest.raises(CislensError, match="no chromosome of genes is in the genome"):
        Starts.of(table(("plasmid", 10, 20, "x", "+")), genome)
    with pytest.raises(CislensError, match="no strand"):
        Starts.of(table(("chr1", 10, 20, "x", "+")).drop("strand"), genome)
