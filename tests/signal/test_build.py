import errno
import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyBigWig
import pytest

from cislens.engines import LocalEngine
from cislens.errors import CislensError
from cislens.files import claimed
from cislens.signal import build, resuming, shards, sharing
from cislens.signal.build import build_part, build_planned, build_profile_store
from cislens.signal.plan import plan_profile_store
from cislens.signal.resuming import UnitsLeft
from cislens.signal.sharing import WHOLE, Part
from cislens.signal.store import ProfileStore


def content(folder):
    """Digest of every file of a store."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def planned(toy):
    return plan_profile_store(toy.genomes, toy.tracks, **toy.settings)


@pytest.mark.peers
def test_targets_are_those_of_pybigwig_and_numpy(toy):
    store = build_profile_store(toy.folder / "store", toy.genomes, toy.tracks, **toy.settings)
    windows = store.windows("toy")
    found = store.targets("toy", np.arange(windows.height))
    for t, track in enumerate(store.tracks("toy").rows()):
        peer = pyBigWig.open(str(toy.folder / track.file))
        sign = -1 if track.id == "minus" else 1
        for row, (chrom, start, end) in enumerate(windows.select("chrom", "start", "end").rows()):
            values = np.nan_to_num(peer.values(chrom, start, end, numpy=True))
            bins = sign * values[32:-32].reshape(30, 32).sum(axis=1)
            bins = np.array([b if b <= 16 else 15 + (b - 15) ** 0.5 for b in bins])
            np.testing.assert_allclose(found[row, :, t], bins, rtol=1e-3)
    assert found.max() > 16.5
    assert found.min() >= 0


def test_sequences_are_those_of_the_genome_and_n_beyond_it(toy):
    store = build_profile_store(toy.folder / "store", toy.genomes, toy.tracks, **toy.settings)
    windows = store.windows("toy")
    found = store.sequence("toy", np.arange(windows.height))
    assert found.shape == (windows.height, 1024 + 16)
    for row, (chrom, start, end) in enumerate(windows.select("chrom", "start", "end").rows()):
        assert (found[row] == toy.genome.fetch(chrom, start - 8, end + 8)).all()
    assert (found[0, :8] == 4).all()


def test_bytes_are_the_same_for_any_number_of_workers(toy):
    plan = planned(toy)
    build_planned(toy.folder / "one", plan, LocalEngine(1))
    build_planned(toy.folder / "two", plan, LocalEngine(2))
    assert content(toy.folder / "one") == content(toy.folder / "two")
    assert not (toy.folder / "one.partial").exists()


def test_the_manifest_has_the_digest_of_every_other_file(toy):
    store = build_profile_store(toy.folder / "store", toy.genomes, toy.tracks, **toy.settings)
    found = content(store.path)
    del found["manifest.json"]
    assert found == {name: file["sha256"] for name, file in store.manifest["files"].items()}
    entry = store.manifest["species"]["toy"]
    assert entry["inputs"]["genome"]["sha256"] == toy.genome.digest
    assert entry["dropped_n"] == 2
    assert str(toy.folder) not in (store.path / "manifest.json").read_text()


def test_building_what_is_built_opens_it_and_anything_else_is_refused(toy, caplog):
    out = toy.folder / "store"
    first = build_profile_store(out, toy.genomes, toy.tracks, **toy.settings)
    with caplog.at_level(logging.INFO, logger="cislens"):
        again = build_profile_store(out, toy.genomes, toy.tracks, **toy.settings)
    assert again.digest == first.digest
    assert "already built" in caplog.text
    with pytest.raises(CislensError, match="other inputs or settings"):
        build_profile_store(out, toy.genomes, toy.tracks, **(toy.settings | {"crop": 2}))
    other = toy.folder / "notes"
    other.mkdir()
    with pytest.raises(CislensError, match="not a profile store"):
        build_profile_store(other, toy.genomes, toy.tracks, **toy.settings)


KILLED = """
import os, signal
from cislens.genome.reference import open_genome
from cislens.signal import build, plan, shards
from cislens.signal.plan import SplitSpec
from cislens.signal.tracks import read_tracks

plan._UNIT_WINDOWS = 8
write, written = build.write_shard, []

def write_shard(folder, layout, shard, rows):
    written.append(shard)
    if len(written) == 6:  # the third unit has its sequence, not yet its targets
        half = layout.shard_file(folder, shard).with_name(".0.1.partial")
        half.parent.mkdir(parents=True, exist_ok=True)
        half.write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    return write(folder, layout, shard, rows)

build.write_shard = write_shard
build.build_profile_store(
    {out!r}, {{"toy": open_genome({fasta!r}, "toy")}}, read_tracks({table!r}), length=1024,
    bin_size=32, crop=1, margin=8,
    split=SplitSpec(valid={{"toy": ["chrB"]}}, test={{"toy": ["chrC"]}}),
)
"""


def kill_a_build(toy, out):
    table = toy.folder / "tracks.tsv"
    toy.tracks.frame.write_csv(table, separator="\t")
    script = KILLED.format(out=str(out), fasta=str(toy.genome.path), table=str(table))
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def test_a_killed_build_resumes_to_the_same_bytes_without_redoing_units(toy, monkeypatch):
    out, whole = toy.folder / "store", toy.folder / "whole"
    build_planned(whole, planned(toy))
    kill_a_build(toy, out)

    assert not out.exists()
    with pytest.raises(CislensError, match="did not finish; run it again"):
        ProfileStore.open(out)
    with pytest.raises(CislensError, match=r"no manifest\.json"):
        ProfileStore.open(toy.folder / "store.partial" / "store")
    assert len(list((toy.folder / "store.partial" / "done").glob("*.json"))) == 2

    written = []
    write = shards.write_shard

    def counted(folder, layout, shard, rows):
        written.append((folder.name, shard))
        return write(folder, layout, shard, rows)

    monkeypatch.setattr(build, "write_shard", counted)
    build_planned(out, planned(toy))
    units = -(-whole_rows(whole) // 8)
    assert sorted(written) == sorted(
        (n, s) for n in ("sequence", "targets") for s in range(2, units)
    )
    assert content(out) == content(whole)
    assert not (toy.folder / "store.partial").exists()


def whole_rows(path):
    return ProfileStore.open(path).windows("toy").height


def test_what_a_build_of_another_plan_left_is_discarded_with_a_message(toy, caplog):
    out = toy.folder / "store"
    kill_a_build(toy, out)
    with caplog.at_level(logging.WARNING, logger="cislens"):
        store = build_profile_store(
            out, toy.genomes, toy.tracks, **(toy.settings | {"bin_size": 64})
        )
    assert "other inputs or settings; starting anew" in caplog.text
    assert store.bins == 14
    build_profile_store(
        toy.folder / "clean", toy.genomes, toy.tracks, **(toy.settings | {"bin_size": 64})
    )
    assert content(out) == content(toy.folder / "clean")


def test_a_full_disk_is_one_message_and_the_build_resumes(toy, monkeypatch):
    out = toy.folder / "store"
    write, written = shards.write_shard, []

    def full(folder, layout, shard, rows):
        if len(written) == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(shard)
        return write(folder, layout, shard, rows)

    plan = planned(toy)
    monkeypatch.setattr(build, "write_shard", full)
    with pytest.raises(CislensError) as caught:
        build_planned(out, plan)
    message = str(caught.value)
    left = sum(
        layout.shard_bytes(shard)
        for layout in plan.layouts("toy").values()
        for shard in range(2, layout.shards)
    )
    assert f"needs {plan.total_bytes:,} bytes, {left:,} of them" in message
    assert "2 of " in message
    assert "run the same command again" in message
    assert not out.exists()

    monkeypatch.setattr(build, "write_shard", write)
    build_planned(out, plan)
    build_planned(toy.folder / "whole", plan)
    assert content(out) == content(toy.folder / "whole")


def test_a_disk_that_is_full_from_the_start_is_the_same_message(toy, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(build, "create_array", full)
    with pytest.raises(CislensError, match=r"the disk is full: .* 0 of 5 units are done"):
        build_planned(toy.folder / "store", planned(toy))


def test_too_little_space_is_noticed_before_any_unit(toy, monkeypatch):
    monkeypatch.setattr(
        resuming.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})()
    )
    with pytest.raises(CislensError, match=r"more bytes, 1,000 are free"):
        build_planned(toy.folder / "store", planned(toy))
    assert not list((toy.folder / "store.partial" / "done").iterdir())


def test_other_errors_of_the_system_are_not_taken_for_a_full_disk(toy, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(build, "write_shard", broken)
    with pytest.raises(OSError, match="input/output") as caught:
        build_planned(toy.folder / "store", planned(toy))
    assert caught.value.errno == errno.EIO


def test_parts_that_build_at_the_same_time_give_the_bytes_of_one_build(toy):
    """Whoever ends last finishes, as in a SLURM array."""
    plan, out = planned(toy), toy.folder / "store"
    build_planned(toy.folder / "whole", plan)
    first = build_part(out, plan, part=Part(2, 3))
    assert first == UnitsLeft(3, 5), "of units 0 to 4, the second of three parts does 1 and 4"
    assert not out.exists()
    with pytest.raises(CislensError, match="did not finish"):
        ProfileStore.open(out)
    with ThreadPoolExecutor(2) as executor:
        ended = list(executor.map(lambda i: build_part(out, plan, part=Part(i, 3)), (1, 3)))
    assert None in ended
    assert all(left is None or left.units > 0 for left in ended)
    assert content(out) == content(toy.folder / "whole")
    assert not (toy.folder / "store.partial").exists()
    assert build_part(out, plan, part=Part(1, 3)) is None, "what is built stays"


def test_parts_and_a_build_of_the_whole_refuse_each_other(toy, monkeypatch):
    plan, out = planned(toy), toy.folder / "store"
    partial = toy.folder / "store.partial"
    monkeypatch.setattr(sharing, "_PREPARED_WITHIN", 0.1)
    with (
        claimed(partial, "building"),
        pytest.raises(CislensError, match="another process is building all of"),
    ):
        build_part(out, plan, part=Part(1, 2))
    build_part(out, plan, part=Part(1, 2))
    with sharing.shared(partial, Part(1, 2), lambda: None):
        for part, message in ((WHOLE, "is building .*partial;"), (Part(1, 2), "1-of-2")):
            with pytest.raises(CislensError, match=message):
                build_part(out, plan, part=part)
        other = plan_profile_store(toy.genomes, toy.tracks, **(toy.settings | {"bin_size": 64}))
        with pytest.raises(CislensError, match="is being built of other inputs"):
            build_part(out, other, part=Part(2, 2))
        assert len(list((partial / "done").iterdir())) == 3


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "-1/2", "a/b", "1/2/3", ""])
def test_a_part_that_is_none_is_refused(text):
    assert sharing.read_part("3/8") == Part(3, 8)
    with pytest.raises(CislensError, match="is not of the form I/N"):
        sharing.read_part(text)


def test_two_builds_of_one_store_do_not_meet(toy):
    with (
        claimed(toy.folder / "store.partial", "building"),
        pytest.raises(CislensError, match="another process is building"),
    ):
        build_planned(toy.folder / "store", planned(toy))


def test_an_abandoned_start_without_plan_is_started_anew(toy):
    partial = toy.folder / "store.partial"
    (partial / "done").mkdir(parents=True)
    (partial / "done" / "toy.0.json").write_text(json.dumps({"sequence": "x", "targets": "x"}))
    build_planned(toy.folder / "store", planned(toy))
    build_planned(toy.folder / "whole", planned(toy))
    assert content(toy.folder / "store") == content(toy.folder / "whole")


def test_an_infinite_value_is_named_with_its_place(toy, monkeypatch):
    read = build.read_windows

    def with_infinity(source, chroms, starts, width, **settings):
        values = read(source, chroms, starts, width, **settings)
        if "atac" in str(source) and chroms[0] == "chrA" and starts[0] == 0:
            values[1, 100] = np.inf  # bin 3, which is the second behind one of crop
        return values

    monkeypatch.setattr(build, "read_windows", with_infinity)
    message = r"'atac' \(.*atac\.bw\) sums to inf in bin 2 .* begins at chrA:1056\."
    with pytest.raises(CislensError, match=message):
        build_planned(toy.folder / "store", planned(toy))


def test_bins_below_zero_are_refused_with_their_place(toy, monkeypatch):
    read = build.read_windows

    def with_negative(source, chroms, starts, width, **settings):
        values = read(source, chroms, starts, width, **settings)
        if "atac" in str(source) and chroms[0] == "chrA" and starts[0] == 0:
            values[1, 96:128] = -2  # bin 3, which is the second behind one of crop
        return values

    monkeypatch.setattr(build, "read_windows", with_negative)
    with pytest.raises(CislensError, match=r"'atac' .* is -64 in the bin at chrA:1056, and"):
        build_planned(toy.folder / "store", planned(toy))
    assert not (toy.folder / "store").exists()
