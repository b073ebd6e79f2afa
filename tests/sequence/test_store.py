"""Sequence stores of a synthetic genome with repeats, N and a chromosome of N alone."""

import shutil

import google_crc32c
import numpy as np
import polars as pl
import pytest
import zarr

from cislens.engines import LocalEngine
from cislens.errors import CislensError, MissingFileError
from cislens.genome.codes import N, decode
from cislens.genome.reference import open_genome
from cislens.recipes.sequence import SequenceRecipe, SequenceSplit
from cislens.sequence import bases as piecewise
from cislens.sequence import build, mappable, parts
from cislens.sequence.build import build_sequences, finished_store
from cislens.sequence.plan import plan_sequences
from cislens.sequence.store import SequenceStore

SIZES = {"c1": 70_000, "none": 9_000, "c2": 50_001, "short": 60, "v": 12_000, "t": 9_000}
WINDOW = 128
SPLIT = SequenceSplit(valid={"toy": ["v"]}, test={"toy": ["t"]})


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    """c1 has single N at [8000, 10000), N at [20000, 26000) and a repeat at [30000, 30500)."""
    rng = np.random.default_rng(0)
    text = {name: list(decode(rng.integers(0, 4, size).astype(np.uint8)))
            for name, size in SIZES.items()}  # fmt: skip
    text["none"] = ["N"] * SIZES["none"]
    text["c1"][8_000:10_000:40] = "N" * 50
    text["c1"][20_000:26_000] = "N" * 6_000
    text["c1"][30_000:30_500] = map(str.lower, text["c1"][30_000:30_500])
    path = tmp_path_factory.mktemp("genome") / "toy.fa"
    path.write_text("".join(f">{name}\n{''.join(bases)}\n" for name, bases in text.items()))
    return path


@pytest.fixture
def recipe(genome):
    def of(**changes):
        keys = {"genomes": {"toy": genome}, "window": WINDOW, "split": SPLIT}
        return SequenceRecipe(**{**keys, **changes})

    return of


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_bases_and_repeats_are_the_genome_s_also_beyond_the_ends(recipe, genome, tmp_path):
    store = build_sequences(recipe(), tmp_path / "store")
    assert store.species == ("toy",)
    assert store.chroms("toy") == tuple(SIZES)
    assert store.chrom_sizes("toy") == SIZES
    assert store.assembly("toy") == "toy"
    reader = open_genome(genome)
    places = [
        (0, 0), (0, 7_990), (0, 29_990), (0, -50), (0, 69_950), (1, 0), (2, 49_900), (3, -30),
        (4, 5), (5, 8_990), (5, 10_000), (0, -5_000),
    ]  # fmt: skip
    chrom, start = np.array(places).T
    codes, repeats = store.cut("toy", chrom, start, 200)
    assert codes.dtype == np.uint8
    for row, (number, begin) in enumerate(places):
        name = store.chroms("toy")[number]
        assert np.array_equal(codes[row], reader.fetch(name, begin, begin + 200))
        assert np.array_equal(repeats[row], reader.soft_mask(name, begin, begin + 200))
    # Without a window over an end there is another way through the code.
    inner, _ = store.cut("toy", chrom[[1, 2]], start[[1, 2]], 200)
    assert np.array_equal(inner, codes[[1, 2]])
    assert store.cut("toy", chrom[:0], start[:0], 200)[0].shape == (0, 200)
    whole = zarr.open_array(tmp_path / "store" / "species" / "toy" / "bases", mode="r")
    assert whole.shape == (sum(SIZES.values()),)
    assert whole[30_000] >= 8 > whole[29_999]
    assert (whole[70_000:79_000] == N).all()


def test_every_start_keeps_to_its_part_to_n_and_to_repeats(recipe, genome, tmp_path, monkeypatch):
    # Runs go on from piece to piece.
    for module, bases in ((mappable, 1_000), (parts, 10_000), (build, 7_000)):
        monkeypatch.setattr(module, "_PIECE", bases)
    (tmp_path / "black.bed").write_text("c1\t50\t60\nc2\t40000\t40010\n")
    store = build_sequences(
        recipe(blacklist={"toy": tmp_path / "black.bed"}, most_repeats=0.5), tmp_path / "store"
    )
    reader = open_genome(genome)
    assert not {"none", "short"} & set(store.starts["chrom"])
    for name, part in {"c1": "train", "c2": "train", "v": "valid", "t": "test"}.items():
        size = SIZES[name]
        uncalled = np.append(0, np.cumsum(reader.chromosome(name) == N))
        repeats = np.append(0, np.cumsum(reader.soft_mask(name, 0, size)))
        starts = np.arange(size - WINDOW + 1)
        valid = uncalled[starts + WINDOW] - uncalled[starts] <= 6  # 5 % of 128
        valid &= repeats[starts + WINDOW] - repeats[starts] <= 64
        for chrom, left, right in (("c1", 50, 60), ("c2", 40_000, 40_010)):
            if chrom == name:
                valid &= (starts + WINDOW <= left) | (starts >= right)
        runs = store.starts.filter(pl.col("chrom") == name)
        found = np.zeros(len(starts), bool)
        for first, last in runs.select("first", "last").iter_rows():
            assert not found[first:last].any()
            found[first:last] = True
        # A tile without a base is left out, and with it windows that reach a little into it.
        differing = np.flatnonzero(found != valid)
        assert not found[differing].any()
        assert len(differing) <= 12
        assert runs["split"].unique().to_list() == [part]
    run = store.starts.filter((pl.col("chrom") == "c2") & (pl.col("first") < 40_000))
    assert run["last"].max() == 40_000 - WINDOW + 1


def test_windows_lie_in_one_part_where_blocks_meet(recipe, tmp_path):
    split = SequenceSplit(block_bp=8192, fractions={"train": 0.6, "valid": 0.2, "test": 0.2})
    store = build_sequences(recipe(split=split), tmp_path / "store")
    tiles, reach = store.windows("toy"), store.window - 1
    assert set(tiles["split"]) == {"train", "valid", "test"}
    part = {name: np.full(size, "", "<U5") for name, size in SIZES.items()}
    for chrom, start, end, split_name in tiles.select("chrom", "start", "end", "split").iter_rows():
        assert (part[chrom][start:end] == "").all()
        part[chrom][start:end] = split_name
    crossing = 0
    for _species, chrom, first, last, name, block in store.starts.iter_rows():
        assert (part[chrom][first : last + reach] == name).all()
        held = tiles.filter((pl.col("chrom") == chrom) & (pl.col("block") == block))
        assert held["start"].min() <= first < last <= held["end"].max()
        crossing += last + reach > held["end"].max()
    assert crossing > 0  # into the next block, of the same part


def test_bytes_depend_on_neither_workers_nor_interruptions(recipe, genome, tmp_path, monkeypatch):
    shutil.copy(genome, tmp_path / "other.fa")
    split = SequenceSplit(valid={"toy": ["v"], "other": ["v"]}, test={"toy": ["t"], "other": ["t"]})
    both = recipe(genomes={"toy": genome, "other": tmp_path / "other.fa"}, split=split)
    first = build_sequences(both, tmp_path / "first")
    assert build_sequences(both, tmp_path / "second", LocalEngine(2)).digest == first.digest
    with monkeypatch.context() as patch:
        # Ends after the first species is done, half through the second.
        written = []

        def fail(genome_, chrom, start, end):
            if genome_.name == "other" and chrom == "c2":
                raise KeyboardInterrupt
            written.append(genome_.name)
            return marked(genome_, chrom, start, end)

        marked = build._marked
        patch.setattr(build, "_marked", fail)
        with pytest.raises(KeyboardInterrupt):
            build_sequences(both, tmp_path / "third")
        assert not (tmp_path / "third").exists()
        with pytest.raises(CislensError, match="did not finish; run it again"):
            SequenceStore.open(tmp_path / "third")
        assert (tmp_path / "third.partial" / "done" / "toy.json").exists()
        patch.setattr(build, "_marked", lambda *args: written.append("") or marked(*args))
        written.clear()
        # What a kill would leave where an interruption cleans up.
        stale = tmp_path / "third.partial" / "store" / "species" / "other" / "bases" / "c"
        stale.mkdir(parents=True, exist_ok=True)
        (stale / ".0.1.2.partial").write_bytes(b"half")
        third = build_sequences(both, tmp_path / "third")
        assert len(written) == len(SIZES)  # one species alone
    assert third.digest == first.digest
    assert content(tmp_path / "third") == content(tmp_path / "first")
    assert not (tmp_path / "third.partial").exists()


def test_a_finished_store_is_opened_and_one_of_another_recipe_refused(recipe, tmp_path):
    store = build_sequences(recipe(), tmp_path / "store")
    found = finished_store(recipe(), tmp_path / "store")
    assert found is not None
    assert found.digest == store.digest
    assert store.describe() == plan_sequences(recipe()).describe()
    with pytest.raises(CislensError, match="of other inputs or settings"):
        build_sequences(recipe(window=96), tmp_path / "store")
    file = tmp_path / "store" / "species" / "toy" / "bases" / "c" / "0"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CislensError, match=r"truncated or damaged.*expected 150,061 bytes"):
        SequenceStore.open(tmp_path / "store")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CislensError, match="build it with `cislens data sequence`"):
        SequenceStore.open(tmp_path / "empty")


def test_labels_say_what_lies_near_the_probe(recipe, tmp_path):
    (tmp_path / "probe.bed").write_text("c2\t900\t1100\nc1\t100\t101\nc1\t5000\t5001\n")
    store = build_sequences(recipe(probe={"toy": tmp_path / "probe.bed"}), tmp_path / "store")
    middles = {0: [100, 5000], 2: [1000]}
    rng = np.random.default_rng(0)
    chrom = rng.choice([0, 2, 4], 3_000)
    center = rng.integers(0, 6_000, 3_000)
    expected = [
        any(abs(c - middle) <= WINDOW // 2 for middle in middles.get(k, []))
        for k, c in zip(chrom.tolist(), center.tolist(), strict=True)
    ]
    found = store.labels("toy", chrom, center)
    assert found.dtype == np.int8
    assert found.tolist() == [int(near) for near in expected]
    assert 50 < found.sum() < 200
    none = build_sequences(recipe(), tmp_path / "without")
    assert none.labels("toy", chrom, center).tolist() == [-1] * 3_000
    (tmp_path / "genes.gtf").write_text(
        'c1\ts\tgene\t1001\t2000\t.\t+\t.\tgene_id "A";\n'
        'c1\ts\tgene\t3001\t4000\t.\t-\t.\tgene_id "B";\n'
    )
    genes = build_sequences(recipe(probe={"toy": tmp_path / "genes.gtf"}), tmp_path / "genes")
    place = np.array([1000 + 64, 1000 + 65, 3999 - 64, 3999 - 65, 3000])
    assert genes.labels("toy", np.zeros(5, int), place).tolist() == [1, 0, 1, 0, 0]


def test_haplotypes_are_kept_with_the_genome(recipe, genome, tmp_path):
    base = decode(open_genome(genome).fetch("c1", 99, 100))
    other = "A" if base != "A" else "C"
    (tmp_path / "v.vcf").write_text(
        "##fileformat=VCFv4.2\n##contig=<ID=c1>\n"
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="g">\n'
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta\tb\n"
        f"c1\t100\t.\t{base}\t{other}T\t.\t.\t.\tGT\t0|0\t1|0\n"
    )
    store = build_sequences(recipe(haplotypes={"toy": tmp_path / "v.vcf"}), tmp_path / "store")
    held = store.haplotypes("toy")
    assert held is not None
    assert held.count == 4
    found = [held.alleles("c1", 50, 150, number) for number in range(4)]
    assert [len(alleles) for alleles in found] == [0, 0, 1, 0]
    place, taken, codes = found[2][0]
    assert (place, taken, decode(codes)) == (99, 1, f"{other}T")
    assert store.describe()["species"]["toy"]["haplotypes"] == 4
    (tmp_path / "v.vcf").write_text((tmp_path / "v.vcf").read_text().replace("c1", "zz"))
    with pytest.raises(CislensError, match=r"v\.vcf.*zz.*c1"):
        plan_sequences(recipe(haplotypes={"toy": tmp_path / "v.vcf"}))


def test_a_disk_needs_room_for_haplotypes_too(recipe, tmp_path, monkeypatch):
    head = "##fileformat=VCFv4.2\n##contig=<ID=c1>\n"
    head += '##FORMAT=<ID=GT,Number=1,Type=String,Description="g">\n'
    head += "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta\n"
    bases = decode(open_genome(recipe().genomes["toy"]).fetch("c1", 99, 101))
    lines = [f"c1\t{pos}\t.\t{base}\t{base}T\t.\t.\t.\tGT\t0|1\n"
             for pos, base in enumerate(bases, 100)]  # fmt: skip
    (tmp_path / "v.vcf").write_text(head + "".join(lines))
    plan = plan_sequences(recipe(haplotypes={"toy": tmp_path / "v.vcf"}))
    free = sum(SIZES.values()) + 1  # a byte less than bases and two variants need
    assert plan.total_bytes == free + 1
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(CislensError, match=f"needs {free + 1:,} more bytes, {free:,} are free"):
        build.build_planned(tmp_path / "store", plan)


def test_parts_are_taken_over_from_any_store(recipe, tmp_path, small_store, region_store):
    from cislens.example import example_path
    from cislens.motifs.store import RegionStore
    from cislens.signal.store import ProfileStore

    yeast = example_path("yeast_mini/sacCer3_II_IV_XVI.fa.gz")
    name = region_store.species
    for species, other in (("yeast", small_store), (name, region_store)):
        keys = {"genomes": {species: yeast}, "split": SequenceSplit(store=other.path)}
        store = build_sequences(recipe(**keys), tmp_path / species)
        part = {c: np.full(n, "", "<U5") for c, n in store.chrom_sizes(species).items()}
        kinds = ProfileStore | RegionStore
        assert isinstance(other, kinds)
        table = other.regions if isinstance(other, RegionStore) else other.windows(species)
        for chrom, first, last, split in store.starts.select(
            "chrom", "first", "last", "split"
        ).iter_rows():
            part[chrom][first : last + WINDOW - 1] = split
        for chrom, start, end, split in table.select("chrom", "start", "end", "split").iter_rows():
            assert set(part[chrom][start:end]) == {split}
        again = recipe(**keys | {"split": SequenceSplit(store=store.path)})
        copy = build_sequences(again, tmp_path / f"{species}-again")
        assert copy.starts.equals(store.starts)
        assert copy.windows(species).equals(store.windows(species))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": 80_000}, r"80,000 bp is longer than every chromosome.*c1, has 70,000 bp"),
        ({"split": SequenceSplit(valid={"toy": ["v"]})}, "no chromosome is left for test"),
        ({"split": SequenceSplit(valid={"toi": ["v"]})}, "species 'toi', which has no genome"),
        ({"split": SequenceSplit(valid={"toy": ["none"]}, test={"toy": ["t"]})},
         "no window lies on 'none'"),
        ({"split": SequenceSplit(exclude={"toy": ["c3"]})}, "has no chromosome 'c3'"),
        ({"split": SequenceSplit(block_bp=4_000)}, r"blocks of 4,000 bp cannot hold the tiles"),
        ({"split": SequenceSplit(store="gone")}, "store gone does not exist"),
        ({"window": 10_000, "most_n": 0}, r"no window lies on 't'"),
        ({"split": SequenceSplit(valid={"toy": ["v"]}, store="x")}, "leave out valid, test"),
    ],
)  # fmt: skip
def test_bad_recipes_are_refused(recipe, changes, message):
    with pytest.raises(CislensError, match=message):
        plan_sequences(recipe(**changes))


def test_bad_genomes_and_files_are_refused(recipe, tmp_path, caplog):
    (tmp_path / "n.fa").write_text(">a\n" + "N" * 5_000 + "\n>b\n" + "n" * 5_000 + "\n")
    with pytest.raises(CislensError, match=r"every base of .*n\.fa.* is N, e\.g\. on a"):
        plan_sequences(recipe(genomes={"toy": tmp_path / "n.fa"}))
    plan = plan_sequences(recipe())
    assert plan.species["toy"].left_out == ["none"]
    assert "none left out: every base is N" in caplog.text
    (tmp_path / "far.bed").write_text("c1\t1\t2\nc2\t60000\t60010\n")
    with pytest.raises(CislensError, match=r"middle at c2:60,005.*ends at 50,001"):
        plan_sequences(recipe(probe={"toy": tmp_path / "far.bed"}))
    (tmp_path / "all.bed").write_text("v\t0\t12000\n")
    with pytest.raises(CislensError, match="no window of species 'toy' is left for valid"):
        plan_sequences(recipe(blacklist={"toy": tmp_path / "all.bed"}))
    with pytest.raises(MissingFileError, match=r"gone\.fa"):
        plan_sequences(recipe(genomes={"toy": tmp_path / "gone.fa"}))
    store = build_sequences(recipe(), tmp_path / "store")
    with pytest.raises(CislensError, match="has no species 'toyy'"):
        store.cut("toyy", np.array([0]), np.array([0]), 10)
    with pytest.raises(CislensError, match=r"has no species 'other', whose parts"):
        split = SequenceSplit(store=store.path)
        plan_sequences(recipe(genomes={"other": recipe().genomes["toy"]}, split=split))


def test_a_flipped_bit_is_noticed_by_who_reads_it_and_named(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(piecewise, "PIECE", 1 << 12)
    build_sequences(recipe(), tmp_path / "store")
    file = tmp_path / "store" / "species" / "toy" / "bases" / "c" / "0"
    checks = np.fromfile(file.parents[2] / "bases.crc32c", "<u4")
    data = bytearray(file.read_bytes())
    assert checks.size == -(-len(data) // 4096)
    assert checks[1] == google_crc32c.value(bytes(data[4096:8192]))
    data[70_000 + 9_000 + 5] ^= 1  # base 5 of c2, in a piece that also holds the end of `none`
    file.write_bytes(data)
    store = SequenceStore.open(tmp_path / "store")
    sound = np.array([0, 0, 0, 5]), np.array([-20, 5_000, 69_900, 8_990])
    for _ in range(2):
        store.cut("toy", *sound, 100)
        store.cut("toy", np.array([2, 0]), np.array([4_000, 60_000]), 9_000)
        for chrom, start in ((2, 0), (1, 8_950), (2, -95)):
            with pytest.raises(CislensError, match=r"bases is damaged: .* none:\d+-9000, c2:0-\d+"):
                store.cut("toy", np.array([chrom]), np.array([start]), 100)
    with pytest.raises(
        CislensError, match=r"bases/c/0 is damaged: .* Damaged in its array: none:\d+-9000, c2:0-"
    ):
        store.verify()
    (file.parents[2] / "bases.crc32c").write_bytes(b"")
    with pytest.raises(CislensError, match=r"truncated or damaged: species/toy/bases\.crc32c"):
        SequenceStore.open(tmp_path / "store")
