import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from cislens.cli.data import plan_store
from cislens.errors import CislensError, CislensWarning
from cislens.genome.reference import open_genome
from cislens.recipes.profiles import DataRecipe
from cislens.signal.bigwig import write_bigwig
from cislens.signal.plan import SplitSpec, plan_profile_store
from cislens.signal.tracks import track_table


def test_windows_tile_the_chromosomes_and_uncalled_ones_are_counted_out(toy):
    part = plan_profile_store(toy.genomes, toy.tracks, **toy.settings).species["toy"]
    # 30 bins of 32 bp lie between the crops: windows start every 960 bp, (size - 1024) // 960 + 1
    # a chromosome. Of those over the 1,400 N on chrA the two from 9,600 are more than half N.
    assert part.tiled == 31 + 6 + 4
    uncalled = np.zeros(30_000, bool)
    uncalled[10_000:11_400] = True
    starts = np.arange(0, 30_000 - 1023, 960)
    expected = [s for s in starts if uncalled[s : s + 1024].mean() <= 0.5]
    assert part.windows.filter(chrom="chrA")["start"].to_list() == expected
    assert part.dropped_n == 31 - len(expected) == 2
    assert part.dropped_split == 0
    assert dict(part.windows["split"].value_counts().iter_rows()) == {
        "train": len(expected), "valid": 6, "test": 4,
    }  # fmt: skip


def test_a_split_by_blocks_shares_no_base_between_parts(toy):
    settings = toy.settings | {
        "split": SplitSpec({"train": 0.6, "valid": 0.2, "test": 0.2}, block_bp=3000)
    }
    windows = plan_profile_store(toy.genomes, toy.tracks, **settings).species["toy"].windows
    margin = toy.settings["margin"]
    parts = dict.fromkeys(["train", "valid", "test"], None)
    for split in parts:
        covered = set()
        for chrom, start, end in windows.filter(split=split).select("chrom", "start", "end").rows():
            covered |= {(chrom, at) for at in range(start - margin, end + margin)}
        assert covered
        parts[split] = covered
    assert not parts["train"] & parts["valid"]
    assert not parts["train"] & parts["test"]
    assert not parts["valid"] & parts["test"]


def test_excluding_a_chromosome_moves_no_other_window(toy):
    spec = SplitSpec({"train": 0.6, "valid": 0.2, "test": 0.2}, block_bp=3000)
    whole, part = (
        plan_profile_store(toy.genomes, toy.tracks, **(toy.settings | {"split": split}))
        for split in (spec, replace(spec, exclude={"toy": ["chrC"]}))
    )
    windows = whole.species["toy"].windows
    assert "chrC" in windows["chrom"]
    assert part.species["toy"].windows.equals(windows.filter(pl.col("chrom") != "chrC"))
    assert part.digest != whole.digest


def test_a_dry_run_says_what_will_be_built(toy):
    plan = plan_profile_store(toy.genomes, toy.tracks, **toy.settings)
    described = json.loads(json.dumps(plan.describe()))
    part = described["species"]["toy"]
    assert described["bins"] == 30
    assert part["tracks"] == 3
    assert part["chromosome_names"] == {}
    first = toy.genome.fetch("chrA", 0, 30)
    assert part["first_bases"] == "chrA:0 " + "".join("ACGTN"[code] for code in first)
    rows = part["windows"]
    assert described["bytes"] > rows * (1024 + 16 + 30 * 3 * 2)


def test_the_plan_digest_follows_the_inputs_content_not_their_place(toy, tmp_path):
    def digest(tracks, **changes):
        return plan_profile_store(toy.genomes, tracks, **(toy.settings | changes)).digest

    rows = toy.tracks.rows()
    moved = tmp_path / "moved" / "atac.bw"
    moved.parent.mkdir()
    moved.write_bytes((tmp_path / "atac.bw").read_bytes())
    same = track_table([*rows[:2], replace(rows[2], file=str(moved))])
    other = track_table([*rows[:2], replace(rows[2], clip=17.0)])
    before = digest(toy.tracks)
    assert digest(same) == before
    assert digest(other) != before
    assert digest(toy.tracks, crop=2) != before
    toy.write_counts("atac.bw", {"chrA": np.ones(100)}, {"chrA": 30_000})
    assert digest(toy.tracks) != before


def test_a_recipe_may_ask_for_bins_of_one_byte(toy, tmp_path):
    (tmp_path / "tracks.tsv").write_text(f"id\tfile\tspecies\nt\t{toy.rows[2].file}\ttoy\n")
    given = {
        "genomes": {"toy": str(toy.genome.path)}, "tracks": str(tmp_path / "tracks.tsv"),
        "length": 1024, "bin_size": 32, "split": {"block_bp": 2048},
    }  # fmt: skip
    plain = plan_store(DataRecipe.model_validate(given))
    coded = plan_store(DataRecipe.model_validate(given | {"values": "uint8"}))
    saved = plain.species["toy"].windows.height * plain.shape.bins
    assert plain.total_bytes - coded.total_bytes == saved
    assert coded.digest != plain.digest
    # Stores of float16 keep the digest that they had before there were others.
    assert "values" not in plain.recipe()
    assert plain.recipe()["schema_version"] == 2


def test_zeros_left_out_count_zero_and_zeros_written_make_gaps_unmeasured(toy, tmp_path):
    values = np.arange(100.0)
    starts = np.arange(100)
    write_bigwig(tmp_path / "full.bw", {"chrA": 30_000}, "chrA", starts, starts + 1, values)
    full = replace(toy.tracks.rows()[2], id="full", file=str(tmp_path / "full.bw"))
    tracks = track_table([*toy.tracks.rows(), full])
    planned = plan_profile_store(toy.genomes, tracks, **toy.settings).species["toy"].tracks
    assert [track.uncovered for track in planned.rows()] == ["zero"] * 3 + ["baseline"]


def test_names_of_another_style_are_mapped_and_reported(toy, tmp_path):
    sizes = {"A": 30_000, "B": 6_000}
    toy.write_counts("bare.bw", {"A": np.ones(50)}, sizes)
    bare = replace(toy.tracks.rows()[2], file=str(tmp_path / "bare.bw"))
    plan = plan_profile_store(toy.genomes, track_table([bare]), **toy.settings)
    part = plan.species["toy"]
    assert part.chrom_names["atac"] == {"chrA": "A", "chrB": "B"}
    assert "A -> chrA" in part.name_reports["atac"]


def test_foreign_chromosomes_are_refused(toy, tmp_path):
    toy.write_counts("x.bw", {"scaffold_9": np.ones(50)}, {"scaffold_9": 900})
    foreign = replace(toy.tracks.rows()[2], file=str(tmp_path / "x.bw"))
    with pytest.raises(CislensError, match=r"no chromosome of track 'atac'.*scaffold_9"):
        plan_profile_store(toy.genomes, track_table([foreign]), **toy.settings)


def test_a_track_beyond_the_end_of_its_chromosome_is_refused(toy, tmp_path):
    toy.write_counts("x.bw", {"chrB": np.ones(50)}, {"chrB": 6_001})
    long = replace(toy.tracks.rows()[2], file=str(tmp_path / "x.bw"))
    with pytest.raises(CislensError, match=r"'atac'.*x\.bw.*chrB of 6,001 bp.*toy\.fa at 6,000"):
        plan_profile_store(toy.genomes, track_table([long]), **toy.settings)


def test_a_shorter_chromosome_is_warned_about(toy, tmp_path):
    toy.write_counts("x.bw", {"chrB": np.ones(50)}, {"chrB": 5_000})
    short = replace(toy.tracks.rows()[2], file=str(tmp_path / "x.bw"))
    with pytest.warns(CislensWarning, match="another assembly"):
        plan_profile_store(toy.genomes, track_table([short]), **toy.settings)


def test_a_minus_strand_with_a_positive_scale_is_refused(toy):
    rows = [replace(t, scale=1.0, strand_pair="") for t in toy.tracks.rows() if t.id == "minus"]
    with pytest.raises(CislensError, match=r"negative on the whole .* a negative scale"):
        plan_profile_store(toy.genomes, track_table(rows), **toy.settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"length": 32_768}, "longer than every chromosome"),
        (
            {"length": 1000},
            "length 1000 is not a positive multiple of bin_size 32; choose 992 or 1024",
        ),
        ({"length": 5}, "length 5 is not a positive multiple of bin_size 32; choose 32"),
        ({"crop": 16}, "crop 16 leaves none of the 32 bins of a window; choose at most 15"),
        ({"margin": -1}, "must not be negative"),
        ({"split": SplitSpec(valid={"mouse": ["chr1"]})}, "split names species 'mouse'"),
        ({"split": SplitSpec(valid={"toy": ["chrZ"]})}, "'chrZ'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(toy, changes, message):
    with pytest.raises(CislensError, match=message):
        plan_profile_store(toy.genomes, toy.tracks, **(toy.settings | changes))


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (
            SplitSpec(valid={"toy": ["chrB"]}),
            "'toy': no window is left for test, chromosomes are named for valid alone",
        ),
        (
            SplitSpec(test={"toy": ["chrB"]}),
            "'toy': no window is left for valid, chromosomes are named for test alone",
        ),
        (
            SplitSpec(valid={"toy": ["chrA"]}, test={"toy": ["chrB", "chrC"]}),
            "'toy': no window is left for train, every chromosome is named for valid or test",
        ),
        (
            SplitSpec({"train": 0.9, "valid": 0.1, "test": 0.0}),
            "split of species 'toy': the fractions of a split must be positive",
        ),
        (
            SplitSpec(valid={"toy": ["chrB"]}, test={"toy": ["chrC"]}, exclude={"toy": ["chrC"]}),
            "split of species 'toy': exclude leaves no window for test",
        ),
        (SplitSpec(exclude={"toy": ["chrM"]}), "exclude names chromosome 'chrM', which .* not"),
        (SplitSpec(block_bp=500), "split of species 'toy': blocks of 500 bp cannot hold"),
    ],
)
def test_a_split_that_leaves_a_part_without_windows_is_refused(toy, split, message):
    with pytest.raises(CislensError, match=message):
        plan_profile_store(toy.genomes, toy.tracks, **(toy.settings | {"split": split}))


def test_blocks_too_few_for_three_parts_are_refused(toy):
    # Windows of 5,120 bp lie on two chromosomes, each one block.
    settings = toy.settings | {"length": 5120, "split": SplitSpec(block_bp=40_000)}
    message = r"split of species 'toy': no window is left for \w+: .* use smaller blocks"
    with pytest.raises(CislensError, match=message):
        plan_profile_store(toy.genomes, toy.tracks, **settings)


def test_species_of_table_and_genomes_must_be_the_same(toy):
    stray = track_table([replace(toy.tracks.rows()[2], species="toi")])
    with pytest.raises(CislensError, match=r"species 'toi', which has no genome.*'toy'"):
        plan_profile_store(toy.genomes, stray, **toy.settings)
    with pytest.raises(CislensError, match="'second' has a genome but no track"):
        plan_profile_store(toy.genomes | {"second": toy.genome}, toy.tracks, **toy.settings)
    with pytest.raises(CislensError, match="cannot name a folder"):
        settings = toy.settings | {"split": SplitSpec()}
        plan_profile_store({"a/b": toy.genome}, track_table([]), **settings)


def test_missing_and_truncated_tracks_are_named(toy, tmp_path):
    path = tmp_path / "atac.bw"
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(CislensError, match=r"atac\.bw cannot be read"):
        plan_profile_store(toy.genomes, toy.tracks, **toy.settings)
    path.unlink()
    with pytest.raises(CislensError, match=r"atac\.bw does not exist"):
        plan_profile_store(toy.genomes, toy.tracks, **toy.settings)


def test_a_genome_of_n_alone_is_refused(toy, tmp_path):
    fasta = tmp_path / "n.fa"
    fasta.write_text(">chrA\n" + "N" * 30_000 + "\n")
    settings = toy.settings | {"split": SplitSpec()}
    with pytest.raises(CislensError, match=r"all 31 windows .* more than half N"):
        plan_profile_store({"toy": open_genome(fasta)}, toy.tracks, **settings)
