import numpy as np
import polars as pl
import pytest

from cislens.errors import CislensError
from cislens.genome.reference import open_genome
from cislens.motifs.consensus import build_consensus
from cislens.recipes.regions import RegionRecipe
from cislens.signal.bigwig import write_bigwig

WIDTH = 100


@pytest.fixture
def genome(tmp_path):
    """chr2 of 5,000 bp, then chr1 of 4,000 of which [2000, 2400) are unknown."""
    path = tmp_path / "toy.fa"
    known = "GGCAT" * 400
    path.write_text(f">chr2\n{'ACGTC' * 1000}\n>chr1\n{known}{'N' * 400}{known[400:]}\n")
    return open_genome(path)


@pytest.fixture
def build(tmp_path, genome):
    """Builds from texts of files: `cells` maps names to peaks, or to files by kind."""

    def run(cells=None, **keys):
        sections = {}
        for name, files in (cells or {}).items():
            files = {"peaks": files} if isinstance(files, str) else files
            sections[name] = {kind: write(text, f"{name}.{kind}") for kind, text in files.items()}
        for key in {"counts", "regions", "blacklist", "expression"} & set(keys):
            keys[key] = write(keys[key], key)
        recipe = RegionRecipe(genome=genome.path, cells=sections, **{"width": WIDTH, **keys})
        return build_consensus(recipe, genome)

    def write(text, name):
        if not isinstance(text, str) or "\t" not in text:
            return text
        (tmp_path / f"{name}.bed").write_text(text)
        return tmp_path / f"{name}.bed"

    return run


def peak(chrom, center, score, half=20):
    return f"chr{chrom}\t{center - half}\t{center + half}\tp\t{score}\n"


def centers(found):
    regions = found.regions
    return list(zip(regions["chrom"], regions["start"] + WIDTH // 2, strict=True))


def test_regions_are_named_by_assembly_and_place_and_sorted_by_the_genome(build):
    found = build({"liver": peak(1, 500, 1) + peak(2, 3000, 1) + peak(2, 700, 2)}, assembly="toy1")
    assert found.regions.drop("score").rows() == [
        ("toy1:chr2:650-750", "chr2", 650, 750),
        ("toy1:chr2:2950-3050", "chr2", 2950, 3050),
        ("toy1:chr1:450-550", "chr1", 450, 550),
    ]
    assert build({"liver": peak(1, 500, 1)}).regions["region_id"].item() == "toy:chr1:450-550"


def test_within_a_cell_type_the_best_of_overlapping_windows_stays(build):
    found = build({"liver": peak(1, 500, 1) + peak(1, 560, 3) + peak(1, 655, 2) + peak(1, 755, 1)})
    assert centers(found) == [("chr1", 560), ("chr1", 755)]


def test_across_cell_types_ranks_decide_and_not_depth(build):
    """The brain's second of two (rank 1/2) gives way to the liver's best (rank 1)."""
    brain = peak(1, 500, 900) + peak(1, 1000, 500)
    liver = peak(1, 1040, 3) + peak(2, 1000, 1) + peak(2, 2000, 2)
    found = build({"brain": brain, "liver": liver})
    assert centers(found) == [("chr2", 1000), ("chr2", 2000), ("chr1", 500), ("chr1", 1040)]
    assert found.regions["score"].to_list() == pytest.approx([1 / 3, 2 / 3, 1, 1])
    assert found.cells == ("brain", "liver")
    # The peak [980, 1020) of the brain overlaps the region [990, 1090).
    assert found.open_RC.tolist() == [[False, True], [False, True], [True, False], [True, True]]
    assert found.access_RC[3].tolist() == pytest.approx([500 / 1400e-6, 0.5e6])


def test_the_order_of_rows_of_any_file_makes_no_difference(build, tmp_path, genome):
    rng = np.random.default_rng(3)
    signal = tmp_path / "signal.bw"
    write_bigwig(signal, dict(genome.chrom_sizes), ["chr1"], [0], [2000], np.array([0.3]))

    def lines(n, make):
        return [make(1 + i % 2, int(c), round(float(s), 3)) for i, (c, s) in
                enumerate(zip(rng.integers(100, 3900, n), rng.random(n), strict=True))]  # fmt: skip

    texts = {
        "peaks": lines(60, peak), "more": lines(60, peak),
        "fragments": lines(200, lambda chrom, c, _: f"chr{chrom}\t{c}\t{c + 50}\n"),
        "blacklist": ["chr1\t700\t800\n", "chr2\t100\t150\n"],
        "counts": [f"chr1:{s}50-{s + 1}10\t{s % 7}\t{s % 5}\n" for s in range(1, 19)],
    }  # fmt: skip

    def run(order):
        text = {name: "".join(order(rows)) for name, rows in texts.items()}
        return build(
            {"a": text["peaks"], "b": {"peaks": text["more"], "signal": signal},
             "c": {"peaks": text["more"], "fragments": text["fragments"]}},
            counts="region_id\td\te\n" + text["counts"], blacklist=text["blacklist"],
        )  # fmt: skip

    first = run(list)
    assert first.cells == ("a", "b", "c", "d", "e")
    assert first.regions.height > 30
    for _ in range(3):
        again = run(rng.permutation)
        assert again.regions.equals(first.regions)
        assert again.open_RC.tobytes() == first.open_RC.tobytes()
        assert again.access_RC.tobytes() == first.access_RC.tobytes()
        assert again.report == first.report


def test_windows_that_are_not_allowed_go_before_the_choice(build):
    """A listed window does not take its neighbor along."""
    cells = {"liver": peak(1, 500, 9) + peak(1, 590, 1) + peak(1, 30, 1) + peak(1, 2040, 1)}
    found = build(cells, blacklist="chr1\t460\t470\n")
    assert centers(found) == [("chr1", 590)]
    report = found.report["cells"]["liver"]
    assert report["on_the_blacklist"] == report["over_chromosome_ends"] == 1
    assert report["with_more_than_5_%_N"] == 1


def test_a_cell_type_whose_windows_all_went_says_where(build):
    message = r"'liver' has no peak left of 3 read \(1 on excluded chromosomes, 1 over chromosome "
    message += r"ends, 1 on the blacklist\)"
    with pytest.raises(CislensError, match=message):
        build(
            {"brain": peak(1, 900, 1), "liver": peak(1, 500, 1) + peak(1, 30, 1) + peak(2, 99, 1)},
            blacklist="chr1\t460\t470\n", split={"exclude": ["chr2"]},
        )  # fmt: skip


def test_an_excluded_chromosome_has_no_region_and_must_be_known(build):
    cells = {"liver": peak(1, 500, 1) + peak(2, 500, 1)}
    assert centers(build(cells, split={"exclude": ["chr2"]})) == [("chr1", 500)]
    with pytest.raises(CislensError, match=r"`exclude` names 'chr3', which .* Did you mean"):
        build(cells, split={"exclude": ["chr3"]})


def test_the_best_regions_stay_where_their_number_is_limited(build):
    cells = {"liver": "".join(peak(1, 200 * n, n % 4) for n in range(1, 10))}
    found = build(cells, max_regions=3)
    # Scores 1 2 3 0 1 2 3 0 1: both threes, and of the twos the first.
    assert centers(found) == [("chr1", 400), ("chr1", 600), ("chr1", 1400)]
    assert found.report["regions"] == 3
    assert found.report["beyond_max_regions"] == 6


def test_a_cell_type_that_the_limit_closes_everywhere_is_an_error(build):
    cells = {"brain": peak(1, 500, 1) + peak(1, 900, 2), "liver": peak(2, 500, 1)}
    with pytest.raises(CislensError, match=r"'brain' is open in none of the 1 regions \(1 cell"):
        build(cells, max_regions=1)


def test_fragments_alone_do_not_say_where_regions_are(build):
    cuts = "".join(f"chr1\t{n}\t{n + 5}\n" for n in [*range(0, 1900, 50), *[460] * 30])
    with pytest.raises(CislensError, match=r"liver have fragments but no peaks\. Give `peaks`"):
        build({"liver": {"fragments": cuts}})
    with_peaks = build({"liver": {"fragments": cuts}, "brain": peak(1, 500, 1) + peak(1, 800, 1)})
    assert with_peaks.open_RC.tolist() == [[True, True], [False, True]]
    assert with_peaks.access_RC[:, 0].tolist() == [64, 4]
    assert "windows" not in with_peaks.report["cells"]["liver"]
    fixed = build({"liver": {"fragments": cuts}}, regions="chr1\t490\t510\nchr1\t790\t810\n")
    assert fixed.open_RC.tolist() == [[True], [False]]


def test_fixed_regions_are_taken_as_they_are(build):
    regions = "chr1\t900\t920\nchr1\t470\t530\nchr1\t480\t520\nchr2\t500\t502\nchr1\t540\t560\n"
    found = build({"liver": peak(1, 555, 1) + peak(1, 930, 3)}, regions=regions + "chrUn\t1\t9\n")
    assert centers(found) == [("chr2", 501), ("chr1", 500), ("chr1", 550), ("chr1", 910)]
    assert found.open_RC[:, 0].tolist() == [False, True, True, True]
    report = found.report["regions_file"]
    assert (report["duplicates"], report["on_foreign_contigs"], report["windows"]) == (1, 1, 4)
    # In parts of a million over the regions: 250,000 in two of them and 750,000 in one.
    assert found.regions["score"].to_list() == pytest.approx([0, 2e5, 2e5, 6e5])
    best = build({"liver": peak(1, 555, 1) + peak(1, 930, 3)}, regions=regions, max_regions=1)
    assert centers(best) == [("chr1", 910)]


def test_fixed_regions_obey_the_rules_of_windows_and_of_the_genome(build):
    cells = {"liver": peak(1, 500, 1)}
    rows = "chr1\t490\t510\nchr1\t0\t20\nchr1\t2100\t2200\nchr1\t900\t950\n"
    found = build(cells, regions=rows, blacklist="chr1\t900\t901\n")
    assert centers(found) == [("chr1", 500)]
    with pytest.raises(CislensError, match=r"region 5 \(chr1:3990-4001\) reaches beyond"):
        build(cells, regions=rows + "chr1\t3990\t4001\n")
    with pytest.raises(CislensError, match=r"no region of .* is left"):
        build(cells, regions="chr1\t0\t20\n")


COUNTS = "region_id\ta\tb\nchr1:480-520\t3\t0\nchr2:480-520\t0\t5\nchr1:880-920\t1\t2\n"


def test_a_table_of_counts_gives_regions_and_their_accessibility(build):
    found = build(counts=COUNTS)
    assert centers(found) == [("chr2", 500), ("chr1", 500), ("chr1", 900)]
    assert found.access_RC.tolist() == [[0, 5], [3, 0], [1, 2]]
    assert found.open_RC.tolist() == [[False, True], [True, False], [True, True]]


def test_counts_join_fixed_regions_by_name_in_any_order(build):
    bed = "chr2\t480\t520\nchr1\t880\t920\nchr1\t480\t520\n"
    found = build(counts=COUNTS, regions=bed)
    assert found.access_RC.tolist() == [[0, 5], [3, 0], [1, 2]]
    with pytest.raises(CislensError, match=r"1 missing from the table \(chr1:700-720\)"):
        build(counts=COUNTS, regions=bed + "chr1\t700\t720\n")
    with pytest.raises(CislensError, match=r"1 not in .*regions.bed \(chr2:480-520\)"):
        build(counts=COUNTS, regions="chr1\t880\t920\nchr1\t480\t520\n")


def test_counts_may_name_regions_as_the_store_does(build):
    """Also where the recipe leaves the assembly's name to the file of the genome."""
    rows = "chr1:450-550\t3\nchr1:850-950\t1\n"
    bare = build(counts="region_id\tliver\n" + rows)
    named = build(counts="region_id\tliver\n" + rows.replace("chr1", "toy:chr1"))
    assert set(named.regions["region_id"]) == {"toy:chr1:450-550", "toy:chr1:850-950"}
    assert named.regions.equals(bare.regions)


def test_peaks_and_counts_share_their_regions(build):
    found = build({"liver": peak(1, 890, 1) + peak(1, 1500, 2)}, counts=COUNTS)
    assert found.cells == ("liver", "a", "b")
    # The count region at 900 is the best of none of its cell types; liver's window at 890 ranks
    # 1/2 as it does in `a` and `b`, and of equals the first along the genome stays.
    assert centers(found) == [("chr2", 500), ("chr1", 500), ("chr1", 890), ("chr1", 1500)]
    assert found.access_RC[:, 1:].tolist() == [[0, 5], [3, 0], [1, 2], [0, 0]]
    assert found.open_RC[:, 0].tolist() == [False, False, True, True]


def test_real_human_peaks_make_regions_apart(core_data):
    human = core_data / "human_hg19_chr20_21"
    pooled = human / "peaks/ENCODE_DREAM_conservative_TF_peaks.bed.gz"
    recipe = RegionRecipe(
        genome=human / "hg19_chr20_21.fa.gz",
        assembly="hg19",
        cells={
            "K562": {"peaks": pooled, "summit": "column_6", "named": "K562|*"},
            "fBrain": {"peaks": human / "peaks/fBrain_DS14718_DHS.bed.gz"},
            "GM12878": {
                "peaks": [human / f"peaks/GM12878_Sp1_rep{n}.broadPeak.gz" for n in (1, 2)]
            },
        },
    )
    found = build_consensus(recipe, open_genome(recipe.genome, "hg19"))
    apart = found.regions.group_by("chrom").agg(pl.col("start").diff().min())
    assert apart["start"].min() >= 512
    assert found.regions["region_id"].n_unique() == found.regions.height
    on21 = (found.regions["chrom"] == "chr21").to_numpy()
    assert on21.any()
    assert not found.open_RC[on21, 0].any()  # the challenge withheld the factors' peaks on chr21


def test_real_worm_tissues_are_open_where_their_own_reads_are(core_data):
    worm = core_data / "celegans_ce11_chrI"
    cells = {
        tissue: {"peaks": worm / "promoters_tissue.bed.gz", "named": tissue,
                 "signal": worm / f"tracks/atac_{tissue}_cov.bw"}
        for tissue in ("Germline", "Neurons")
    }  # fmt: skip
    recipe = RegionRecipe(genome=worm / "ce11_chrI.fa.gz", cells=cells)
    found = build_consensus(recipe, open_genome(recipe.genome))
    assert found.report["cells"]["Germline"]["duplicates"] == 52  # promoters of both strands
    germline, neurons = found.open_RC.T
    means = (
        found.access_RC[germline & ~neurons].mean(0),
        found.access_RC[neurons & ~germline].mean(0),
    )
    assert means[0][0] > 20 * means[0][1]
    assert means[1][1] > 20 * means[1][0]


def test_real_blood_counts_stay_with_the_names_of_their_regions(core_data):
    human = core_data / "human_hg19_chr20_21"
    path = human / "peaks/blood_accessibility_most_variable_10k.hg19.tsv.gz"
    recipe = RegionRecipe(
        genome=human / "hg19_chr20_21.fa.gz", counts=path, log_counts=True, width=200
    )
    found = build_consensus(recipe, open_genome(recipe.genome, "hg19"))
    assert found.cells == ("Mono", "CD4", "CD8", "Nkcell", "Bcell", "Ery")
    assert found.report["cells"]["Mono"]["on_foreign_contigs"] == 9569
    # Regions of 200 bp keep their place, so the file can be asked by name.
    table = pl.read_csv(path, separator="\t").with_columns(
        region_id=pl.concat_str(pl.lit("hg19:"), "loc")
    )
    named = found.regions.join(table, on="region_id", maintain_order="left")
    assert named.height == found.regions.height == 426
    expected = np.maximum(2 ** named.select(found.cells).to_numpy() - 1, 0)
    assert np.allclose(found.access_RC, expected, rtol=1e-12, atol=0)
    assert (found.open_RC == (expected > 0)).all()
