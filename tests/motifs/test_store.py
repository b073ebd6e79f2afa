"""What a region store refuses; a small one of packaged data."""

import json
import shutil

import numpy as np
import polars as pl
import pytest

from cislens.errors import CislensError, MissingFileError
from cislens.motifs.build import build_regions
from cislens.motifs.store import SCHEMA_VERSION, RegionStore
from cislens.recipes.packaged import recipe_path
from cislens.recipes.reading import read_recipe
from cislens.recipes.regions import RegionRecipe


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    recipe = read_recipe(
        recipe_path("data", "example-regions"), RegionRecipe, {"max_regions": 150, "archetypes": 30}
    )
    return build_regions(recipe, tmp_path_factory.mktemp("built") / "store")


@pytest.fixture
def store(built, tmp_path):
    """A copy to spoil."""
    shutil.copytree(built.path, tmp_path / "store")
    return tmp_path / "store"


def edited(store, **changes):
    manifest = json.loads((store / "manifest.json").read_text())
    (store / "manifest.json").write_text(json.dumps(manifest | changes))


def test_a_store_opens_with_the_same_values(built, store):
    other = RegionStore.open(store)
    rows = [3, 0, 77]
    assert other.digest == built.digest
    assert other.constants_digest == built.constants_digest
    for read in ("sequence", "raw", "motif_values"):
        assert np.array_equal(getattr(other, read)(rows), getattr(built, read)(rows))
    other.load()
    assert np.array_equal(other.motif_values(rows), built.motif_values(rows))
    assert other.motif_values(rows).dtype == np.float32
    assert (other.width, other.margin, other.assembly) == (256, 32, "sacCer3")
    assert list(other.chrom_sizes) == ["chrII", "chrIV", "chrXVI"]
    assert other.expression is None
    assert other.access.dtype == np.float32
    assert other.is_open.dtype == bool


def test_motifs_are_joined_and_in_the_order_of_the_tree(built):
    motifs = built.motifs
    assert motifs.height == 30
    assert motifs["leaf"].is_sorted()
    assert sum(map(len, motifs["members"])) == 193
    for row in motifs.iter_rows(named=True):
        assert row["motif_id"] in row["members"]
        assert row["factors"]


def test_arrays_are_read_by_any_reader_of_zarr(built):
    zarr = pytest.importorskip("zarr")
    array = zarr.open_array(built.path / "occupancy", mode="r")
    rows = np.arange(built.regions.height)
    assert np.array_equal(array[:], built.raw(rows))


def test_a_folder_that_is_no_store_is_refused(tmp_path, store):
    with pytest.raises(MissingFileError, match=r"region store .* does not exist"):
        RegionStore.open(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CislensError, match=r"has no manifest\.json: it is not a region store"):
        RegionStore.open(tmp_path / "empty")
    edited(store, format="cislens profile store")
    with pytest.raises(CislensError, match="not the manifest of a cislens region store"):
        RegionStore.open(store)
    (store / "manifest.json").write_text("{")
    with pytest.raises(CislensError, match="not JSON; the store is damaged"):
        RegionStore.open(store)


def test_another_schema_is_refused(store):
    edited(store, schema_version=SCHEMA_VERSION + 1)
    with pytest.raises(CislensError, match=f"schema version {SCHEMA_VERSION + 1}, this cislens"):
        RegionStore.open(store)


@pytest.mark.parametrize("name", ["occupancy/c/0/0", "constants.npz", "regions.parquet"])
def test_a_file_that_is_cut_or_gone_is_named(store, name):
    data = (store / name).read_bytes()
    (store / name).write_bytes(data[:-1])
    with pytest.raises(CislensError, match=f"{name} has {len(data) - 1:,} bytes, expected"):
        RegionStore.open(store)
    (store / name).unlink()
    with pytest.raises(CislensError, match=f"{name} is missing"):
        RegionStore.open(store)


def test_a_flipped_bit_is_named_by_its_region(store):
    opened = RegionStore.open(store)
    opened.verify()
    file = store / "occupancy/c/0/0"
    data = bytearray(file.read_bytes())
    data[opened.sizes.motifs * 2 * 3] ^= 1  # of region 3
    file.write_bytes(data)
    chrom, start, end = opened.regions.select("chrom", "start", "end").row(3)
    for read in (lambda: RegionStore.open(store).raw([3]), RegionStore.open(store).verify):
        with pytest.raises(CislensError, match=rf"is damaged: .*{chrom}:{start}-{end}"):
            read()


def spoiled(store, name, table):
    """A table in place of the store's, with a manifest that has its size."""
    table.write_parquet(store / f"{name}.parquet")
    manifest = json.loads((store / "manifest.json").read_text())
    manifest["files"][f"{name}.parquet"]["bytes"] = (store / f"{name}.parquet").stat().st_size
    (store / "manifest.json").write_text(json.dumps(manifest))


def test_constants_of_another_split_are_refused(built, store):
    moved = built.regions.with_columns(split=pl.col("split").reverse())
    spoiled(store, "regions", moved)
    with pytest.raises(CislensError, match=r"constants of region store .* another split or other"):
        RegionStore.open(store)


@pytest.mark.parametrize("name", ["motifs", "cells", "regions"])
def test_tables_shorter_than_the_arrays_are_refused(built, store, name):
    spoiled(store, name, getattr(built, name)[:-1])
    with pytest.raises(CislensError, match="is damaged: its tables have"):
        RegionStore.open(store)
