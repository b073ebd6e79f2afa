"""Background variants that look like the input's by their place."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cislens.effects.variants.background import (
    SURROUNDINGS,
    TSS_EDGES,
    Census,
    distance_to,
    draw_background,
    substitutions,
)
from cislens.errors import CislensError
from cislens.genome.codes import decode, gc_content
from cislens.genome.reference import Genome, open_genome
from cislens.genome.variants import check_reference


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    """Two chromosomes: chrA is AT-rich in its first half and GC-rich in its second."""
    rng = np.random.default_rng(0)
    poor = rng.choice(list("ACGT"), 60_000, p=[0.4, 0.1, 0.1, 0.4])
    rich = rng.choice(list("ACGT"), 60_000, p=[0.15, 0.35, 0.35, 0.15])
    other = rng.choice(list("ACGT"), 30_000)
    other[10_000:20_000] = "N"
    path = tmp_path_factory.mktemp("genome") / "g.fa"
    path.write_text(f">chrA\n{''.join(poor)}{''.join(rich)}\n>chrB\n{''.join(other)}\n")
    return open_genome(path)


def variants_at(genome: Genome, chrom: str, first: np.ndarray, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    ref = [decode(genome.fetch(chrom, place, place + 1)) for place in first.tolist()]
    alt = [str(rng.choice([b for b in "ACGT" if b != base])) for base in ref]
    return pl.DataFrame({"chrom": chrom, "pos": first + 1, "ref": ref, "alt": alt})


def census_of(genome: Genome, variants: pl.DataFrame, genes: pl.DataFrame | None = None) -> Census:
    census = Census(genome, genes)
    for part in (variants[:7], variants[7:]):
        census.add(part)
    return census


def gc_around(genome: Genome, variants: pl.DataFrame) -> np.ndarray:
    first = variants["pos"].to_numpy() - 1
    return gc_content(genome.windows(variants["chrom"], first - SURROUNDINGS // 2, SURROUNDINGS))


def test_background_is_substitutions_of_the_genome_s_own_bases(genome: Genome) -> None:
    given = variants_at(genome, "chrB", np.arange(200, 9_000, 37))
    found = draw_background(census_of(genome, given), 500, seed=1)
    assert found.variants.height == found.wanted == 500
    assert check_reference(found.variants, genome)["ref_match"].unique().to_list() == ["match"]
    assert (found.variants["ref"] != found.variants["alt"]).all()
    assert set(found.variants["chrom"]) == {"chrB"}
    assert found.variants["pos"].is_sorted()
    assert found.variants.n_unique(["chrom", "pos"]) == 500


def test_strata_have_the_input_s_proportions(genome: Genome) -> None:
    rng = np.random.default_rng(3)
    given = variants_at(genome, "chrA", rng.choice(np.arange(70_000, 119_000), 300, replace=False))
    found = draw_background(census_of(genome, given), 600, seed=1)
    assert found.relaxed == 0
    wanted = np.bincount(substitutions(given), minlength=17)
    got = np.bincount(substitutions(found.variants), minlength=17)
    # Whole numbers by largest remainder, over at most ten bins of GC content for each.
    assert np.abs(got - 2 * wanted).max() <= 10
    # The input lies in the GC-rich half, a random place would be in the other every second time.
    bins = [np.bincount((10 * gc_around(genome, v)).astype(int), minlength=11) for v in
            (given, found.variants)]  # fmt: skip
    assert np.abs(bins[1] - 2 * bins[0]).max() <= 12
    assert bins[1][:4].sum() < 60


def test_distance_to_transcription_starts_is_matched(genome: Genome) -> None:
    genes = pl.DataFrame(
        {"chrom": ["chrA", "chrA"], "start": [10_000, 90_000], "end": [12_000, 95_000],
         "name": ["left", "right"], "strand": ["+", "-"], "gene_type": ["", ""]}
    )  # fmt: skip
    starts = np.array([10_000, 94_999])
    near = np.concatenate([np.arange(9_200, 10_800, 9), np.arange(94_100, 95_900, 9)])
    given = variants_at(genome, "chrA", near)
    found = draw_background(census_of(genome, given, genes), 200, seed=2)
    distance = distance_to(starts, found.variants["pos"].to_numpy() - 1)
    assert (distance < TSS_EDGES[0]).mean() > 0.97
    free = draw_background(census_of(genome, given), 200, seed=2)
    assert (distance_to(starts, free.variants["pos"].to_numpy() - 1) < TSS_EDGES[0]).mean() < 0.2


def test_distance_is_to_the_nearest_start_on_either_side() -> None:
    found = distance_to(np.array([100, 200]), np.array([0, 100, 149, 151, 200, 260]))
    assert found.tolist() == [100, 0, 49, 49, 0, 60]


def test_no_background_lies_on_a_variant_of_the_input(genome: Genome) -> None:
    # Every second base of a stretch, and one deletion over the rest of the chromosome.
    given = variants_at(genome, "chrB", np.arange(0, 9_800, 2))
    long = decode(genome.fetch("chrB", 20_000, 30_000))
    given = pl.concat(
        [given, pl.DataFrame({"chrom": "chrB", "pos": [20_001], "ref": [long], "alt": [long[0]]})],
        how="vertical_relaxed",
    )
    found = draw_background(census_of(genome, given), 1000, seed=0).variants
    assert not set(found["pos"].to_list()) & set(given["pos"].to_list())
    assert (found["pos"] <= 20_000).all()


def test_an_unknown_base_or_surrounding_is_no_background(genome: Genome) -> None:
    given = variants_at(genome, "chrB", np.arange(300, 9_000, 50))
    found = draw_background(census_of(genome, given), 1500, seed=0).variants
    inside = found.filter(pl.col("pos").is_between(10_001, 20_000))
    assert inside.is_empty()


def test_a_seed_is_a_background(genome: Genome) -> None:
    given = variants_at(genome, "chrA", np.arange(300, 50_000, 997))
    first, again, other = (
        draw_background(census_of(genome, given), 100, seed=seed).variants for seed in (5, 5, 6)
    )
    assert first.equals(again)
    assert not first.equals(other)


def test_insertions_alone_are_matched_by_their_places(genome: Genome) -> None:
    given = variants_at(genome, "chrA", np.arange(70_000, 110_000, 997))
    given = given.with_columns(alt=pl.col("ref") + "ACG")
    found = draw_background(census_of(genome, given), 120, seed=5).variants
    assert sorted(np.bincount(substitutions(found), minlength=16)[[1, 2, 3, 4]]) == [10] * 4
    assert (gc_around(genome, found) > 0.5).all()


def test_a_genome_that_has_too_few_places_gives_what_it_has(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tiny.fa").write_text(">c\n" + "ACGT" * 60 + "\n")
    genome = open_genome(tmp_path / "tiny.fa")
    given = variants_at(genome, "c", np.arange(100, 140))
    found = draw_background(census_of(genome, given), 5000, seed=0)
    assert 0 < found.variants.height <= 200
    assert "background variants found a place" in caplog.text


def test_a_genome_without_a_free_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "full.fa").write_text(">c\n" + "ACGT" * 60 + "\n")
    genome = open_genome(tmp_path / "full.fa")
    with pytest.raises(CislensError, match="no free place"):
        draw_background(census_of(genome, variants_at(genome, "c", np.arange(240))), 10, seed=0)


def test_nothing_to_match_is_an_error(genome: Genome) -> None:
    with pytest.raises(CislensError, match="no variant to match"):
        draw_background(Census(genome), 10, seed=0)


def test_a_large_genome_shares_bits_and_never_forgets_a_taken_base(
    genome: Genome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cislens.effects.variants.background._MOST_BITS", 1 << 14)
    given = variants_at(genome, "chrA", np.arange(0, 120_000, 101))
    census = census_of(genome, given)
    first = given["pos"].to_numpy() - 1
    assert not census.free(given["chrom"], first).any()
    others = np.setdiff1d(np.arange(120_000), first)
    free = census.free(pl.Series(["chrA"] * len(others)), others)
    # 1,189 of 16,384 bits are set at most.
    assert 0.9 < free.mean() < 0.96
