import json

import numpy as np
import pytest
import zarr

from cislens.errors import CislensError, MissingFileError
from cislens.signal.build import build_profile_store
from cislens.signal.loader import ProfileLoader
from cislens.signal.quantization import dequantize, quantize
from cislens.signal.store import ProfileStore


@pytest.fixture
def store(toy):
    return build_profile_store(toy.folder / "store", toy.genomes, toy.tracks, **toy.settings)


def edit_manifest(store, **changes):
    path = store.path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_store_knows_its_sizes_windows_and_tracks(store, toy):
    assert store.species == ("toy",)
    assert (store.length, store.bin_size, store.crop, store.margin) == (1024, 32, 1, 8)
    assert store.bins == 30
    assert store.windows("toy").columns == ["chrom", "start", "end", "block", "split"]
    tracks = store.tracks("toy").rows()
    assert [track.id for track in tracks] == ["plus", "minus", "atac"]
    assert [track.file for track in tracks] == ["plus.bw", "minus.bw", "atac.bw"]
    assert store.chrom_sizes("toy") == toy.genome.chrom_sizes
    rows = store.windows("toy").height
    assert store.data_bytes == rows * (1024 + 16 + 30 * 3 * 2)


def test_rows_are_those_of_the_windows_table_also_after_loading(store):
    rows = [7, 0, 7]
    targets, codes = store.targets("toy", rows), store.sequence("toy", rows)
    assert targets.shape == (3, 30, 3)
    assert targets.dtype == np.float16
    assert codes.dtype == np.uint8
    np.testing.assert_array_equal(targets[0], targets[2])
    store.load()
    np.testing.assert_array_equal(store.targets("toy", rows), targets)
    np.testing.assert_array_equal(store.sequence("toy", rows), codes)


def test_any_zarr_reader_can_read_the_arrays(store):
    rows = np.arange(store.windows("toy").height)
    folder = store.path / "species" / "toy"
    for name, expected in (
        ("sequence", store.sequence("toy", rows)), ("targets", store.targets("toy", rows)),
    ):  # fmt: skip
        np.testing.assert_array_equal(zarr.open_array(folder / name, mode="r")[:], expected)


def test_an_unknown_species_is_named(store):
    with pytest.raises(CislensError, match=r"no species 'toi'\. Did you mean 'toy'"):
        store.windows("toi")


@pytest.mark.parametrize(
    "name",
    [
        "species/toy/targets/c/1/0/0",
        "species/toy/sequence/c/0/0",
        "species/toy/windows.parquet",
        "species/toy/targets/zarr.json",
    ],
)
@pytest.mark.parametrize("change", ["cut", "remove"])
def test_a_truncated_store_is_refused_with_the_file_named(store, name, change):
    file = store.path / name
    size = file.stat().st_size
    if change == "cut":
        file.write_bytes(file.read_bytes()[:-1])
        state = rf"has {size - 1:,} bytes, expected {size:,}"
    else:
        file.unlink()
        state = "is missing"
    with pytest.raises(CislensError, match=rf"truncated or damaged: {name} {state}"):
        ProfileStore.open(store.path)


def test_a_store_of_codes_gives_the_values_that_they_stand_for(store, toy):
    coded = build_profile_store(
        toy.folder / "coded", toy.genomes, toy.tracks, **toy.settings, values="uint8"
    )
    rows = np.arange(store.windows("toy").height)
    exact = store.targets("toy", rows)
    assert exact.max() > 10
    np.testing.assert_array_equal(coded.targets("toy", rows), dequantize(quantize(exact)))
    np.testing.assert_array_equal(coded.sequence("toy", rows), store.sequence("toy", rows))
    assert coded.data_bytes == rows.size * (1024 + 16 + 30 * 3)
    assert coded.values == coded.manifest["params"]["values"] == "uint8"
    # What was written before there were codes has no such key, and neither has what is equal to it.
    assert store.values == "float16"
    assert "values" not in store.manifest["params"]
    assert (store.manifest["schema_version"], coded.manifest["schema_version"]) == (2, 3)


def test_a_flipped_bit_is_named_by_its_window_when_read_and_when_verified(store):
    store.verify()
    layout = store.arrays("toy")[1].layout
    row = layout.shard_rows + 2
    file = layout.shard_file(store.path / "species/toy/targets", 1)
    data = bytearray(file.read_bytes())
    data[2 * layout.row_bytes + 5] ^= 4
    file.write_bytes(data)
    damaged = ProfileStore.open(store.path)
    chrom, start, end = damaged.windows("toy").row(row)[:3]
    np.testing.assert_array_equal(
        damaged.targets("toy", [row - 1]), store.targets("toy", [row - 1])
    )
    with pytest.raises(CislensError, match=rf"toy/targets is damaged: .* {chrom}:{start}-{end} is"):
        damaged.targets("toy", [row])
    with pytest.raises(CislensError, match=rf"{chrom}:{start}-{end} is"):
        ProfileLoader(damaged, "train", 4)
    with pytest.raises(CislensError, match=rf"c/1/0/0 is damaged: .*: {chrom}:{start}-{end}\. "):
        damaged.verify()


def test_a_store_from_before_there_were_checksums_opens_and_is_verified_by_its_files(store):
    manifest = json.loads((store.path / "manifest.json").read_text())
    for name in [name for name in manifest["files"] if name.endswith(".crc32c")]:
        del manifest["files"][name]
        (store.path / name).unlink()
    edit_manifest(store, files=manifest["files"])
    old = ProfileStore.open(store.path)
    np.testing.assert_array_equal(old.targets("toy", [3]), store.targets("toy", [3]))
    file = store.path / "species/toy/targets/c/0/0/0"
    file.write_bytes(b"\1" + file.read_bytes()[1:])
    with pytest.raises(CislensError, match=r"targets/c/0/0/0 is damaged: its sha256"):
        old.verify()


@pytest.mark.parametrize("values", ["uint8", "int64", "float16 "])
def test_bins_of_another_type_than_the_schema_says_are_refused(store, values):
    edit_manifest(store, params=store.manifest["params"] | {"values": values})
    with pytest.raises(CislensError, match=f"bins of '{values}' are not those of its schema"):
        ProfileStore.open(store.path)


def test_a_newer_schema_is_refused(store):
    edit_manifest(store, schema_version=4)
    with pytest.raises(CislensError, match="schema version 4, this cislens reads 2 and 3"):
        ProfileStore.open(store.path)


def test_foreign_folders_are_refused(store, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CislensError, match=r"has no manifest\.json"):
        ProfileStore.open(tmp_path / "empty")
    with pytest.raises(MissingFileError, match="profile store"):
        ProfileStore.open(tmp_path / "nowhere")
    edit_manifest(store, format="something else")
    with pytest.raises(CislensError, match="not the manifest of a cislens profile store"):
        ProfileStore.open(store.path)
    (store.path / "manifest.json").write_text("{")
    with pytest.raises(CislensError, match="not JSON"):
        ProfileStore.open(store.path)


def test_tables_that_do_not_fit_the_manifest_are_refused(store):
    species = store.manifest["species"]
    species["toy"]["windows"] += 1
    edit_manifest(store, species=species)
    with pytest.raises(CislensError, match="tables of 'toy' have 39 windows and 3 tracks"):
        ProfileStore.open(store.path)
