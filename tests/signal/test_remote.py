"""Stores at addresses, on a server of this machine that speaks S3."""

import errno
import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest

from cislens.errors import CislensError, MissingFileError
from cislens.files import file_digest
from cislens.recipes.reading import read_recipe, write_recipe
from cislens.recipes.schema import TrainRecipe
from cislens.remote import Address, Remote, place
from cislens.signal import build, remote
from cislens.signal.build import build_part, build_planned
from cislens.signal.loader import ProfileLoader
from cislens.signal.plan import plan_profile_store
from cislens.signal.resuming import UnitsLeft
from cislens.signal.sharing import Part
from cislens.signal.store import ProfileStore


def planned(toy):
    return plan_profile_store(toy.genomes, toy.tracks, **toy.settings)


def test_an_address_keeps_its_slashes_and_a_file_of_this_machine_is_a_path(tmp_path):
    address = place("s3://bucket/a/store")
    assert isinstance(address, Address)
    assert str(address) == "s3://bucket/a/store"
    assert str(address / "manifest.json") == "s3://bucket/a/store/manifest.json"
    assert str(place("s3:/bucket/a")) == "s3://bucket/a", "as pathlib leaves it"
    assert place(f"file://{tmp_path}") == tmp_path
    assert place(tmp_path) == tmp_path
    assert not isinstance(place("folder/store"), Address)
    assert str(pickle.loads(pickle.dumps(Remote(address))).address) == str(address)


def test_a_recipe_names_a_store_by_its_address(tmp_path):
    (tmp_path / "train.yaml").write_text(
        "store: s3://bucket/store\nmodel: {preset: space-plus-tiny}\ntraining: {steps: 1}\n"
    )
    recipe = read_recipe(tmp_path / "train.yaml", TrainRecipe)
    assert str(place(recipe.store)) == "s3://bucket/store"
    (tmp_path / "again.yaml").write_text(write_recipe(recipe))
    assert read_recipe(tmp_path / "again.yaml", TrainRecipe) == recipe


def test_a_store_built_and_read_there_is_the_one_built_here(toy, bucket, monkeypatch):
    here = build_planned(toy.folder / "store", planned(toy))
    write, written = build.write_shard, []

    def stops(*given):
        if len(written) == 5:
            raise KeyboardInterrupt
        written.append(given)
        return write(*given)

    monkeypatch.setattr(build, "write_shard", stops)
    with pytest.raises(KeyboardInterrupt):
        build_planned(bucket, planned(toy))
    with pytest.raises(CislensError, match=rf"the build of {bucket} did not finish"):
        ProfileStore.open(bucket)
    written.clear()
    monkeypatch.setattr(
        build, "write_shard", lambda *given: (written.append(given), write(*given))[1]
    )
    assert build_part(bucket, planned(toy), part=Part(1, 2)) == UnitsLeft(1, 5)
    assert build_part(bucket, planned(toy), part=Part(2, 2)) is None
    assert len(written) == 6, "two of five units were done, and are not done again"
    there = build_planned(bucket, planned(toy))
    assert there.digest == here.digest
    objects = Remote(Address(bucket)).sizes()
    assert objects.keys() == {*here.manifest["files"], "manifest.json"}
    for name in objects:
        data = Remote(Address(bucket)).read(name)
        assert hashlib.sha256(data).hexdigest() == file_digest(here.path / name)
    there.verify()
    with pytest.raises(CislensError, match="of other inputs or settings"):
        build_planned(bucket, plan_profile_store(toy.genomes, toy.tracks, **toy.settings, seed=1))

    for budget, ranges in ((0, 1 << 20), (0, 500), (1 << 30, 1 << 20)):
        monkeypatch.setattr(remote, "_RANGE_BYTES", ranges)
        loaders = [
            ProfileLoader(ProfileStore.open(path), "train", 4, memory_budget=budget)
            for path in (here.path, bucket)
        ]
        for one, other in zip(loaders[0].epoch(0), loaders[1].epoch(0), strict=True):
            np.testing.assert_array_equal(one.codes_BL, other.codes_BL)
            np.testing.assert_array_equal(one.targets["toy"], other.targets["toy"])
    rows = [7, 0, 7, 8]
    np.testing.assert_array_equal(there.targets("toy", rows), here.targets("toy", rows))
    part = ProfileStore.open(bucket, tracks=["atac"], chroms=["chrA"])
    np.testing.assert_array_equal(
        part.targets("toy", [1]), ProfileStore.open(here.path).targets("toy", [1])[:, :, 2:]
    )

    damage(bucket, "species/toy/targets/c/0/0/0", lambda data: data[:-1])
    with pytest.raises(
        CislensError, match=r"truncated or damaged: species/toy/targets/c/0/0/0 has"
    ):
        ProfileStore.open(bucket)
    with pytest.raises(CislensError, match=r"targets/c/0/0/0 is truncated: it gave"):
        Remote(Address(bucket)).ranges(["species/toy/targets/c/0/0/0"], [0], [1 << 20])
    with pytest.raises(MissingFileError, match=r"cannot read .*: there is no such object"):
        Remote(Address(bucket)).ranges(["species/toy/targets/c/9/0/0"], [0], [1])
    damage(bucket, "species/toy/targets/c/0/0/0", lambda data: b"\7" + data[1:] + b"\0")
    chrom, start, end = here.windows("toy").row(0)[:3]
    with pytest.raises(CislensError, match=rf"targets is damaged: .* {chrom}:{start}-{end} is"):
        ProfileStore.open(bucket).targets("toy", [0])


def damage(bucket, name, change):
    there = Remote(Address(bucket))
    there.write(name, change(there.read(name)))


def test_what_is_not_a_store_or_cannot_be_reached_is_one_message(bucket, toy, monkeypatch):
    with pytest.raises(CislensError, match=rf"{bucket} has no manifest\.json: it is not a profile"):
        ProfileStore.open(bucket)
    with pytest.raises(MissingFileError, match=r"cannot list s3://nowhere/store: .* bucket"):
        ProfileStore.open("s3://nowhere/store")
    Remote(Address(bucket)).write("notes.txt", b"mine")
    with pytest.raises(CislensError, match=r"holds notes\.txt and is no store"):
        build_planned(bucket, planned(toy))
    with pytest.raises(CislensError, match=r"Protocol not known: nosuch"):
        ProfileStore.open("nosuch://bucket/store")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(CislensError, match=r"NoCredentialsError.*credentials of the environment"):
        ProfileStore.open(bucket)


def test_no_room_for_what_is_on_its_way_is_one_message(toy, bucket, monkeypatch):
    """Writing fails as it does where the disk of TMPDIR is full; room again, the build goes on."""
    write, written = build.write_shard, []

    def full(*given):
        if len(written) == 4:
            raise OSError(errno.ENOSPC, "No space left on device", str(given[0]))
        written.append(given)
        return write(*given)

    with monkeypatch.context() as patch:
        patch.setattr(build, "write_shard", full)
        with pytest.raises(CislensError, match=r"no space is left in .*; let TMPDIR name a folder"):
            build_planned(bucket, planned(toy))
    done = [name for name in Remote(Address(bucket)).sizes() if "/done/" in name]
    assert len(done) == 2
    assert len(build_planned(bucket, planned(toy)).tracks("toy")) == 3

    def no_room(path, data):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", no_room)  # of tables, when the store is opened
    with pytest.raises(CislensError, match="no space is left in"):
        ProfileStore.open(bucket)
