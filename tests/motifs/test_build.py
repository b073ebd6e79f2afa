"""Region stores of a synthetic genome of four chromosomes and three cell types."""

import shutil

import numpy as np
import polars as pl
import pytest

from cislens.engines import LocalEngine
from cislens.errors import CislensError
from cislens.genome.codes import decode
from cislens.genome.reference import open_genome
from cislens.motifs import build, plan
from cislens.motifs.build import build_regions
from cislens.motifs.library import read_library
from cislens.motifs.plan import plan_regions
from cislens.motifs.scan import hits, occupancy
from cislens.motifs.store import RegionStore
from cislens.recipes.regions import RegionRecipe, RegionSplit
from cislens.signal import resuming

WIDTH, MARGIN, SIZE = 100, 8, 20_000
CHROMS = ("c1", "c2", "valid1", "test1")
MOTIFS = {"M1 TGA": "TGACTCA", "M2 SP1": "GGGCGG", "M3 E4": "CACGTG", "M4 T5": "TTAATTAA"}
SPLIT = RegionSplit(valid=["valid1"], test=["test1"], test_cells=["held"])


def write_genome(path, bases):
    path.write_text("".join(f">{name}\n{text}\n" for name, text in bases.items()))


@pytest.fixture(scope="module")
def bases():
    """Chromosomes whose GC content drifts; c1 has a repeat at [5000, 6000) and some N behind."""
    rng = np.random.default_rng(0)
    found = {}
    for name in CHROMS:
        gc = 0.5 + 0.15 * np.sin(np.arange(SIZE) / 1500)
        strong = rng.random(SIZE) < gc
        codes = np.where(strong, rng.integers(1, 3, SIZE), rng.choice([0, 3], SIZE))
        found[name] = decode(codes.astype(np.uint8))
    first = list(found["c1"])
    for place in range(8000, 10000, 150):
        first[place : place + 3] = "NNN"
    first[5000:6000] = map(str.lower, first[5000:6000])
    return found | {"c1": "".join(first)}


@pytest.fixture
def project(tmp_path, bases):
    """Writes genome, motifs and peaks; `recipe(**changes)` of them."""
    write_genome(tmp_path / "toy.fa", bases)
    text = "MEME version 4\n\nALPHABET= ACGT\n\n"
    for name, word in MOTIFS.items():
        rows = "".join(
            " ".join("0.85" if base == at else "0.05" for base in "ACGT") + "\n" for at in word
        )
        text += f"MOTIF {name}\nletter-probability matrix: alength= 4 w= {len(word)}\n{rows}\n"
    (tmp_path / "motifs.meme").write_text(text)
    rng = np.random.default_rng(1)
    for cell in ("liver", "brain", "held"):
        lines = [
            f"{chrom}\t{at}\t{at + 80}\tp\t{rng.integers(1, 900)}\n"
            for chrom in CHROMS
            for at in np.sort(rng.choice(np.arange(1, 190), 40, replace=False)) * 105
        ]
        (tmp_path / f"{cell}.bed").write_text("".join(lines))

    def recipe(**changes):
        cells = {cell: {"peaks": tmp_path / f"{cell}.bed"} for cell in ("liver", "brain", "held")}
        keys = {
            "genome": tmp_path / "toy.fa", "cells": cells, "width": WIDTH, "margin": MARGIN,
            "motifs": str(tmp_path / "motifs.meme"), "split": SPLIT,
        }  # fmt: skip
        return RegionRecipe(**{**keys, **changes})

    return tmp_path, recipe


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(plan, "_SHARD_ROWS", 64)


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_store_holds_what_was_scanned_and_measured(project):
    folder, recipe = project
    store = build_regions(recipe(), folder / "store")
    genome = open_genome(folder / "toy.fa")
    rows = np.arange(store.regions.height)
    assert len(rows) > 200
    assert store.regions["region_id"].is_unique().all()
    assert store.regions["chrom"].unique(maintain_order=True).to_list() == list(CHROMS)
    starts = store.regions["start"]
    wide = genome.windows(store.regions["chrom"], starts - MARGIN, WIDTH + 2 * MARGIN)
    assert np.array_equal(store.sequence(rows), wide)
    by_id = {motif.id: motif for motif in read_library(str(folder / "motifs.meme")).motifs}
    motifs = [by_id[name] for name in store.motif_ids]
    expected = occupancy(np.ascontiguousarray(wide[:, MARGIN:-MARGIN]), motifs)
    assert np.array_equal(store.raw(rows), expected.astype(np.float16))
    assert store.raw([7, 3, 3]).shape == (3, 4)
    assert store.cells.rows() == [
        ("liver", "train", store.is_open[:, 0].sum()),
        ("brain", "train", store.is_open[:, 1].sum()),
        ("held", "test", store.is_open[:, 2].sum()),
    ]
    assert store.regions["cells"].to_list() == store.is_open.sum(1).tolist()
    assert store.access.shape == store.is_open.shape
    assert store.access[store.is_open].mean() > store.access[~store.is_open].mean() + 1


def test_the_motif_channel_is_standard_on_training_regions_also_beside_an_n(project):
    folder, recipe = project
    store = build_regions(recipe(), folder / "store")
    train = np.flatnonzero(store.regions["split"] == "train")
    values = store.motif_values(train)
    np.testing.assert_allclose(values.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(values.std(0), 1, atol=1e-4)
    uncalled = np.flatnonzero(store.regions["called"] < WIDTH)
    assert len(uncalled) >= 3
    both = store.motif_values([uncalled[0], uncalled[0] + 1])
    assert np.array_equal(both[0], store.motif_values(uncalled)[0])
    assert np.array_equal(both[1], store.motif_values(uncalled[:1] + 1)[0])


def test_composition_is_that_of_the_region_without_margins(project, bases):
    folder, recipe = project
    regions = build_regions(recipe(), folder / "store").regions
    for row in regions.sample(40, seed=0).iter_rows(named=True):
        text = bases[row["chrom"]][row["start"] : row["end"]]
        upper = text.upper()
        assert row["called"] == WIDTH - upper.count("N")
        assert row["gc"] == pytest.approx((upper.count("G") + upper.count("C")) / row["called"])
        assert row["repeat_fraction"] == pytest.approx(sum(map(str.islower, text)) / WIDTH)
    assert (regions["repeat_fraction"] > 0).sum() >= 5


def test_row_order_and_workers_make_no_difference(project):
    folder, recipe = project
    build_regions(recipe(), folder / "one")
    expected = content(folder / "one")
    rng = np.random.default_rng(2)
    for path in folder.glob("*.bed"):
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(rng.permutation(lines).tolist()))
    build_regions(recipe(), folder / "two", LocalEngine(2))
    assert content(folder / "two") == expected


def test_a_build_that_was_stopped_goes_on_and_gives_the_same_bytes(project, monkeypatch):
    folder, recipe = project
    build_regions(recipe(), folder / "whole")
    written = []
    write = build.write_shard

    def keep_account(path, layout, shard, rows):
        written.append((path.name, shard))
        return write(path, layout, shard, rows)

    def stop_in_the_third(path, layout, shard, rows):
        if shard == 2 and path.name == "access":
            raise KeyboardInterrupt
        return keep_account(path, layout, shard, rows)

    monkeypatch.setattr(build, "write_shard", stop_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        build_regions(recipe(), folder / "store")
    with pytest.raises(CislensError, match="did not finish; run it again, it resumes"):
        RegionStore.open(folder / "store")
    assert ("open", 1) in written
    stopped = len(written)
    monkeypatch.setattr(build, "write_shard", keep_account)
    build_regions(recipe(), folder / "store")
    again = written[stopped:]
    assert {shard for _name, shard in again}.isdisjoint({0, 1})
    assert content(folder / "store") == content(folder / "whole")
    assert not (folder / "store.partial").exists()


def test_other_settings_start_anew_and_never_overwrite(project, monkeypatch):
    folder, recipe = project
    build_regions(recipe(), folder / "store")
    build_regions(recipe(), folder / "store")
    with pytest.raises(CislensError, match="region store of other inputs or settings"):
        build_regions(recipe(margin=4), folder / "store")
    (folder / "store").rename(folder / "first")
    with monkeypatch.context() as stopped:
        stopped.setattr(build, "_finish", stop)
        with pytest.raises(KeyboardInterrupt):
            build_regions(recipe(margin=4), folder / "store")
    build_regions(recipe(), folder / "store")
    assert content(folder / "store") == content(folder / "first")


def test_a_finished_store_is_known_without_planning(project, monkeypatch):
    """By the content of its files, wherever they are, and not by the order in the recipe."""
    folder, recipe = project
    built = build_regions(recipe(), folder / "store")
    planned = plan_regions(recipe()).describe()
    assert plan.describe_store(built) == planned
    (folder / "store.partial" / "done").mkdir(parents=True)
    with monkeypatch.context() as unplanned:
        unplanned.setattr(build, "plan_regions", stop)
        (folder / "liver.bed").rename(folder / "moved").replace(folder / "liver.bed")
        again = build_regions(recipe(), folder / "store")
        assert again.digest == built.digest
        assert not (folder / "store.partial").exists()
        for changed in (
            recipe(seed=1),
            recipe(split=RegionSplit(valid=["valid1"], test=["test1"])),
        ):
            with pytest.raises(CislensError, match="region store of other inputs or settings"):
                build_regions(changed, folder / "store")
        for name, line in (
            ("liver.bed", "c1\t5\t90\tp\t1\n"),
            ("motifs.meme", "MOTIF M5 T\nletter-probability matrix: w= 1\n1 0 0 0\n"),
        ):
            path = folder / name
            before = path.read_text()
            path.write_text(before + line)
            with pytest.raises(CislensError, match="region store of other inputs or settings"):
                build_regions(recipe(), folder / "store")
            path.write_text(before)
        with pytest.raises(KeyboardInterrupt):
            build_regions(recipe(), folder / "elsewhere")


def test_a_build_killed_as_it_named_its_store_can_be_repeated(project, monkeypatch):
    folder, recipe = project
    with monkeypatch.context() as killed:
        killed.setattr(resuming, "sync", stop)
        with pytest.raises(KeyboardInterrupt):
            build_regions(recipe(), folder / "store")
    assert (folder / "store.partial").exists()
    (folder / "store").rename(folder / "moved")
    build_regions(recipe(), folder / "store")
    assert content(folder / "store") == content(folder / "moved")


def stop(*_given):
    raise KeyboardInterrupt


def test_no_constant_depends_on_valid_and_test_chromosomes(project, bases):
    folder, recipe = project
    one = build_regions(recipe(), folder / "one")
    rng = np.random.default_rng(3)
    swapped = {
        name: text if name.startswith("c") else "".join(rng.permutation(list(text)).tolist())
        for name, text in bases.items()
    }
    write_genome(folder / "toy.fa", swapped)
    two = build_regions(recipe(), folder / "two")
    train = np.flatnonzero(one.regions["split"] == "train")
    test = np.flatnonzero(one.regions["split"] == "test")
    for name in ("beta_TF", "sd_T", "reference_Q", "access_2"):
        assert np.array_equal(getattr(one.constants, name), getattr(two.constants, name))
    assert np.array_equal(one.motif_values(train), two.motif_values(train))
    assert not np.array_equal(one.motif_values(test), two.motif_values(test))


def test_no_constant_depends_on_a_cell_type_that_is_held_out(project):
    folder, recipe = project
    regions = ids(folder, build_regions(recipe(), folder / "store"))
    one = build_regions(recipe(regions=regions), folder / "one")
    held = folder / "held.bed"
    rows = [line.split("\t") for line in held.read_text().splitlines()]
    held.write_text("".join("\t".join([*row[:4], str(row[1])]) + "\n" for row in rows[::2]))
    two = build_regions(recipe(regions=regions), folder / "two")
    for name in ("beta_TF", "sd_T", "reference_Q", "access_2"):
        assert np.array_equal(getattr(one.constants, name), getattr(two.constants, name))
    assert np.array_equal(one.access[:, :2], two.access[:, :2])
    assert not np.array_equal(one.access[:, 2], two.access[:, 2])


def ids(folder, store):
    path = folder / "fixed.bed"
    store.regions.select("chrom", "start", "end").write_csv(
        path, separator="\t", include_header=False
    )
    return path


def test_another_split_has_another_digest_and_is_refused(project):
    folder, recipe = project
    one = build_regions(recipe(), folder / "one")
    moved = RegionSplit(valid=["c2"], test=["test1"], test_cells=["held"])
    two = build_regions(recipe(split=moved), folder / "two")
    one.require_same(one.constants_digest, one.motif_ids)
    with pytest.raises(CislensError, match="other constants or another split"):
        two.require_same(one.constants_digest, one.motif_ids)
    with pytest.raises(CislensError, match=r"reads 3 motifs.*has 4: M. is only in one"):
        one.require_same(one.constants_digest, one.motif_ids[:3])
    with pytest.raises(CislensError, match="their order differs"):
        one.require_same(one.constants_digest, one.motif_ids[::-1])


def test_homologs_never_lie_in_two_parts(project, bases):
    """A copy on the test chromosome of a training region, on the other strand, is left out."""
    folder, recipe = project
    copied = dict(bases)
    lines = (folder / "liver.bed").read_text().splitlines()
    start = int(lines[20].split("\t")[1]) - 200
    place = next(int(x.split("\t")[1]) for x in lines if x.startswith("test1")) - 200
    text = bases["c1"][start : start + 480].upper()[::-1].translate(str.maketrans("ACGT", "TGCA"))
    copied["test1"] = bases["test1"][:place] + text + bases["test1"][place + 480 :]
    before = build_regions(recipe(), folder / "one")
    write_genome(folder / "toy.fa", copied)
    after = build_regions(recipe(), folder / "two")
    assert before.manifest["regions"]["dropped_homologs"] == 0
    assert after.manifest["regions"]["dropped_homologs"] >= 1
    parts = after.regions.group_by("homology").agg(pl.col("split").n_unique())
    assert parts["split"].max() == 1
    gone = set(before.regions["region_id"]) - set(after.regions["region_id"])
    assert {name.split(":")[1] for name in gone} == {"test1"}


def test_fractions_split_by_blocks_that_share_no_base(project):
    folder, recipe = project
    split = RegionSplit(fractions={"train": 0.6, "valid": 0.2, "test": 0.2})
    store = build_regions(recipe(split=split), folder / "store")
    blocks = store.regions.group_by("block").agg(pl.col("split").n_unique())
    assert blocks["split"].max() == 1
    ordered = store.regions.sort("chrom", "start")
    close = (
        (ordered["chrom"] == ordered["chrom"].shift(1))
        & (ordered["split"] != ordered["split"].shift(1))
        & (ordered["start"] - ordered["end"].shift(1) < 2 * MARGIN)
    )
    assert close.sum() == 0
    assert store.manifest["regions"]["block_bp"] == 16 * WIDTH


def test_hits_are_counted_and_a_motif_without_one_is_named(project):
    folder, recipe = project
    counts = build_regions(recipe(value="hits", p_value=3e-3), folder / "store")
    rows = np.arange(counts.regions.height)
    motifs = {m.id: m for m in read_library(str(folder / "motifs.meme")).motifs}
    codes = counts.sequence(rows)[:, MARGIN:-MARGIN]
    expected = hits(np.ascontiguousarray(codes), [motifs[name] for name in counts.motif_ids], 3e-3)
    assert np.array_equal(counts.raw(rows), expected.astype(np.float16))
    with (folder / "motifs.meme").open("a") as meme:
        meme.write("MOTIF rare RARE\nletter-probability matrix: w= 16\n" + "0 0 0 1\n" * 16)
    with pytest.raises(CislensError, match=r"of 5 motifs \(.*rare.*\): no hit.*larger p_value"):
        build_regions(recipe(value="hits", p_value=1e-6), folder / "other")


def test_expression_joins_by_gene_and_cell_type(project):
    folder, recipe = project
    table = "gene\tbrain\theld\tliver\nSp1\t9\t0\t1\nTGA\t0\t3\t30\nT5\t5\t5\t5\nXX\t1\t1\t1\n"
    (folder / "tpm.tsv").write_text(table)
    store = build_regions(recipe(expression=folder / "tpm.tsv"), folder / "store")
    rows = {name: row for row, name in enumerate(store.motif_ids)}
    found = store.expression
    assert found.shape == (4, 3)
    logs = np.log1p(np.array([[1, 9], [30, 0], [5, 5]]))
    expected = (np.log1p([1, 9, 0]) - logs.mean()) / logs.std()
    np.testing.assert_allclose(found[rows["M2"]], expected, rtol=1e-5)
    assert (found[rows["M3"]] == 0).all()
    assert store.motifs["expressed"].to_list() == [name != "M3" for name in store.motif_ids]


def test_held_out_cell_types_must_be_there_and_leave_one(project):
    _folder, recipe = project
    for split, message in (
        ({"test_cells": ["hold"]}, "no cell type 'hold'.*held"),
        ({"valid_cells": ["held"], "test_cells": ["held"]}, "named for both"),
        ({"test_cells": ["held", "liver", "brain"]}, "every cell type is held out"),
        ({"fractions": {"train": 0.5, "rest": 0.5}}, "fractions are of train, rest"),
        ({"valid": ["valid1"], "test": ["chr9"]}, "no window lies on 'chr9'"),
        ({"valid": ["valid1"]}, "no chromosome is named for test"),
        ({"valid": ["c1", "c2", "valid1"], "test": ["test1"]}, "leave one for training"),
    ):
        with pytest.raises(CislensError, match=message):
            plan_regions(recipe(split=RegionSplit(**split)))


def test_a_disk_without_room_is_told_before_the_work(project, monkeypatch):
    folder, recipe = project
    full = type("Usage", (), {"free": 100})()
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: full)
    with pytest.raises(CislensError, match="100 are free on its disk"):
        build_regions(recipe(), folder / "store")


def test_a_build_that_goes_on_asks_for_the_rest_of_the_room_only(project, monkeypatch):
    folder, recipe = project
    with monkeypatch.context() as stopped:
        stopped.setattr(build, "_finish", stop)
        with pytest.raises(KeyboardInterrupt):
            build_regions(recipe(), folder / "store")
    full = type("Usage", (), {"free": 0})()
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: full)
    build_regions(recipe(), folder / "store")


def test_a_motif_longer_than_a_region_is_told_before_the_work(project):
    folder, recipe = project
    with (folder / "motifs.meme").open("a") as meme:
        meme.write(f"MOTIF M5 L\nletter-probability matrix: w= {WIDTH + 1}\n")
        meme.write("0.7 0.1 0.1 0.1\n" * (WIDTH + 1))
    with pytest.raises(CislensError, match=r"1 of 5 motifs .* 100 bp \(M5 has 101 columns"):
        plan_regions(recipe())
