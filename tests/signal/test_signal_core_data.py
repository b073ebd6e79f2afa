"""Signals that are known to be in the development data, seen through a store."""

import numpy as np
import polars as pl
import pytest

from cislens.genome.reference import open_genome
from cislens.signal.build import build_profile_store
from cislens.signal.plan import SplitSpec
from cislens.signal.tracks import Track, track_table

BIN = 16


@pytest.fixture(scope="module")
def pombe(core_data, tmp_path_factory):
    """PRO-seq of both strands and nucleosome dyads over S. pombe."""
    folder = core_data / "spombe_ASM294v2"
    strands = {"plus": "+", "minus": "-"}
    rows = [
        Track(
            name, str(folder / "tracks" / f"proseq_WT_rep1_{name}.bw"), "pombe", strand=sign,
            strand_pair="minus" if name == "plus" else "plus",
        )
        for name, sign in strands.items()
    ]  # fmt: skip
    rows.append(Track("dyads", str(folder / "tracks" / "nucleosome_dyad61.bw"), "pombe"))
    genome = open_genome(folder / "spombe_ASM294v2.fa.gz", "pombe")
    split = SplitSpec(valid={"pombe": ["chrIII"]}, test={"pombe": ["chrM"]})
    out = tmp_path_factory.mktemp("pombe") / "store"
    return build_profile_store(
        out, {"pombe": genome}, track_table(rows), length=4096, bin_size=BIN, split=split, workers=2
    )


@pytest.fixture(scope="module")
def genes(core_data):
    """Genes whose start was observed by PRO-cap, with at least ten reads.

    Read here, since some of the file's observed starts lie beyond the annotated end.
    """
    found = pl.read_csv(
        core_data / "spombe_ASM294v2" / "genes_PROcapObservedTSS.bed.gz", separator="\t",
        has_header=False, new_columns=["chrom", "start", "end", "name", "score", "strand"],
    )  # fmt: skip
    return found.filter(pl.col("score") >= 10, pl.col("chrom") != "chrM")


def mean_per_base(store, genes, first, last):
    """Mean per base of each track from `first` to `last` bp after the genes' starts.

    Plus and minus are exchanged for genes on the minus strand: sense is the first column.
    """
    windows = store.windows("pombe").with_row_index("row")
    targets = store.targets("pombe", np.arange(windows.height)).astype(np.float32)
    whole = {}
    for chrom, part in windows.group_by("chrom"):
        whole[chrom[0]] = targets[part["row"].to_numpy()].reshape(-1, targets.shape[-1])
    found = []
    for chrom, start, end, strand in genes.select("chrom", "start", "end", "strand").rows():
        low, high = (start + first, start + last) if strand == "+" else (end - last, end - first)
        bins = whole[chrom][low // BIN : -(-high // BIN)]
        if low >= 0 and len(bins) == -(-high // BIN) - low // BIN:
            found.append(bins.mean(axis=0)[[0, 1, 2] if strand == "+" else [1, 0, 2]] / BIN)
    return np.mean(found, axis=0)


def test_polymerase_starts_at_the_observed_start_sites_on_their_strand(pombe, genes):
    upstream = mean_per_base(pombe, genes, -300, -100)
    downstream = mean_per_base(pombe, genes, 0, 100)
    assert genes.height > 2000
    assert downstream[0] == pytest.approx(0.26, rel=0.3)
    assert downstream[0] > 4 * upstream[0]
    assert downstream[0] > 4 * downstream[1], "sense against antisense"


def test_a_strand_swapped_at_load_time_would_be_seen(pombe, genes):
    flipped = genes.with_columns(
        strand=pl.when(pl.col("strand") == "+").then(pl.lit("-")).otherwise(pl.lit("+"))
    )
    assert mean_per_base(pombe, flipped, 0, 100)[0] < 0.5 * mean_per_base(pombe, genes, 0, 100)[0]


def test_starts_are_free_of_nucleosomes_upstream(pombe, genes):
    depleted = mean_per_base(pombe, genes, -110, -30)[2]
    first_nucleosome = mean_per_base(pombe, genes, 40, 110)[2]
    assert first_nucleosome > 1.5 * depleted
