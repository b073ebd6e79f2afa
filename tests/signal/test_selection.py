import numpy as np
import pytest

from cislens.errors import CislensError
from cislens.genome.reference import Genome
from cislens.signal import selection
from cislens.signal.build import build_profile_store
from cislens.signal.loader import ProfileLoader
from cislens.signal.plan import SplitSpec
from cislens.signal.shards import RowArray
from cislens.signal.store import ProfileStore
from cislens.signal.tracks import track_table


@pytest.fixture
def built(toy):
    """`toy` with tracks plus, minus and atac, and `other`, the same genome with one more."""
    atac = vars(toy.rows[2])
    other = type(toy.rows[2])(**(atac | {"id": "more", "species": "other"}))
    splits = {"toy": ["chrB"], "other": ["chrB"]}, {"toy": ["chrC"], "other": ["chrC"]}
    settings = toy.settings | {"split": SplitSpec(valid=splits[0], test=splits[1])}
    genomes = {"toy": toy.genome, "other": Genome(toy.genome.path, "other")}
    tracks = track_table([*toy.rows, other])
    return lambda values: build_profile_store(
        toy.folder / values, genomes, tracks, **settings, values=values
    )


@pytest.fixture
def store(built):
    return built("float16")


def whole(store, species):
    rows = np.arange(store.windows(species).height)
    return store.sequence(species, rows), store.targets(species, rows)


@pytest.mark.parametrize(("values", "size", "load"), [("float16", 2, False), ("uint8", 1, True)])
def test_a_part_has_the_values_of_the_whole(built, values, size, load):
    store = built(values)
    part = ProfileStore.open(store.path, tracks=["atac"], chroms=["chrC", "chrB"])
    assert part.species == ("toy",)
    assert part.digest == store.digest
    assert part.tracks("toy").frame["id"].to_list() == ["atac"]
    rows = np.flatnonzero(store.windows("toy")["chrom"].is_in(["chrB", "chrC"]).to_numpy())
    assert part.windows("toy").equals(store.windows("toy")[rows])
    if load:
        part.load()
    codes, targets = whole(store, "toy")
    some = np.array([rows.size - 1, 0, 0])
    np.testing.assert_array_equal(part.sequence("toy", some), codes[rows[some]])
    np.testing.assert_array_equal(part.targets("toy", some), targets[rows[some]][:, :, [2]])
    assert part.data_bytes == rows.size * (1024 + 16 + 30 * size)


def test_a_query_chooses_among_the_tracks_of_all_species(store):
    assert ProfileStore.open(store.path, tracks='strand == "."').species == ("toy", "other")
    assert ProfileStore.open(store.path, tracks='species == "other"').species == ("other",)
    both = ProfileStore.open(store.path, tracks='strand != "."')
    assert both.tracks("toy").strand_permutation().tolist() == [1, 0]
    np.testing.assert_array_equal(both.targets("toy", [3]), store.targets("toy", [3])[..., :2])


def test_species_keep_the_order_of_the_store(store):
    part = ProfileStore.open(store.path, species=["other", "toy"])
    assert part.species == ("toy", "other")
    assert ProfileStore.open(store.path, species=["other"]).species == ("other",)


def test_a_part_of_a_part_is_the_part_of_both(store):
    first = ProfileStore.open(store.path, chroms=["chrB", "chrC"], species=["toy"])
    found = first.part(chroms=["chrC"]).part(tracks=["atac"])
    both = ProfileStore.open(store.path, tracks=["atac"], chroms=["chrC"])
    assert found.windows("toy").equals(both.windows("toy"))
    rows = np.arange(both.windows("toy").height)
    np.testing.assert_array_equal(found.targets("toy", rows), both.targets("toy", rows))
    np.testing.assert_array_equal(found.sequence("toy", rows), both.sequence("toy", rows))


def test_rows_of_other_windows_are_never_read(store, monkeypatch):
    read = []
    gather, cut = RowArray.gather, RowArray.cut

    def watched(self, rows, *further):
        read.extend(np.asarray(rows).tolist())
        return (cut if further else gather)(self, rows, *further)

    monkeypatch.setattr(RowArray, "gather", watched)
    monkeypatch.setattr(RowArray, "cut", watched)
    wanted = np.flatnonzero((store.windows("toy")["chrom"] == "chrC").to_numpy())
    part = ProfileStore.open(store.path, chroms=["chrC"])
    ProfileLoader(part, "test", 2, memory_budget=0).batch(0, 0)
    part.load()
    assert sorted(set(read)) == wanted.tolist()


def test_batches_of_a_part_are_those_of_its_tracks(store, monkeypatch):
    monkeypatch.setattr(selection, "_PIECE_BYTES", 3000)  # several pieces, the last one smaller
    ours = ProfileLoader(ProfileStore.open(store.path, species=["toy"]), "train", 8, shift=8)
    for budget in (0, 1 << 30):
        part = ProfileStore.open(store.path, tracks='assay == "TEST" and strand != "."')
        theirs = ProfileLoader(part, "train", 8, shift=8, memory_budget=budget)
        for step in range(len(ours)):
            found, exact = theirs.batch(0, step), ours.batch(0, step)
            np.testing.assert_array_equal(found.codes_BL, exact.codes_BL)
            np.testing.assert_array_equal(found.targets["toy"], exact.targets["toy"][..., :2])


def test_what_is_not_there_is_refused_by_name(store):
    for asked, message in (
        ({"tracks": ["atax"]}, r"no track 'atax'\. Did you mean 'atac'"),
        ({"tracks": []}, "no track is asked for; name one"),
        ({"tracks": 'assay == "CAGE"'}, r"no track of 4 matches 'assay == \"CAGE\"'"),
        ({"tracks": ["plus", "atac"]}, "'plus' is asked for without its other strand 'minus'"),
        ({"chroms": ["chrD"]}, "no window on chromosome 'chrD'"),
        ({"species": ["toi"]}, r"no species 'toi'\. Did you mean 'toy'"),
        ({"species": []}, "no species is asked for; name one"),
    ):
        with pytest.raises(CislensError, match=message):
            ProfileStore.open(store.path, **asked)


def test_a_part_without_windows_is_refused(store, monkeypatch):
    monkeypatch.setattr(
        "cislens.signal.store.rows_on",
        lambda windows, chroms: np.flatnonzero(np.zeros(windows.height)),
    )
    with pytest.raises(CislensError, match="has no window on chrC; choose other"):
        ProfileStore.open(store.path, tracks=["more"], chroms=["chrC"])


def test_a_part_verifies_what_it_is_a_part_of(store):
    part = ProfileStore.open(store.path, chroms=["chrC"])
    part.verify()
    file = store.path / "species" / "toy" / "targets" / "c" / "0" / "0" / "0"
    data = bytearray(file.read_bytes())
    data[5] ^= 4
    file.write_bytes(data)
    name = "{}:{}-{}".format(*store.windows("toy").select("chrom", "start", "end").row(0))
    with pytest.raises(CislensError, match=name):
        part.verify()
