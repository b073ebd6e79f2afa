"""Records that were written here, byte by byte, and the store they become."""

import errno
import json
import os
import zlib
from pathlib import Path

import numpy as np
import pytest

from cislens.errors import CislensError
from cislens.genome.reference import open_genome
from cislens.signal import basenji_import, basenji_plan, resuming
from cislens.signal.basenji import open_basenji
from cislens.signal.basenji_import import import_basenji
from cislens.signal.basenji_plan import BasenjiSource, plan_import
from cislens.signal.loader import ProfileLoader
from cislens.signal.store import ProfileStore
from cislens.signal.tracks import Track, read_tracks, track_table
from cislens.signal.transforms import untransform

CAGE = "basenji_tfrecords/cage10-train-00000-of-00100.tfrecord"


def source(barnyard, genome=False, species="human"):
    table = read_tracks(barnyard.folder / "targets.txt", species=species)
    reference = open_genome(barnyard.fasta, species) if genome else None
    return BasenjiSource(species, open_basenji(barnyard.folder), table, reference)


def imported(barnyard, genome=False, out="store", **settings) -> ProfileStore:
    plan = plan_import([source(barnyard, genome)], **settings)
    return import_basenji(barnyard.folder.parent / out, plan)


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_every_record_lands_on_its_window(barnyard):
    store = imported(barnyard)
    rows = np.arange(15)
    assert (store.length, store.bin_size, store.crop, store.bins) == (256, 16, 2, 12)
    np.testing.assert_array_equal(store.targets("human", rows), np.stack(barnyard.targets))
    codes = store.sequence("human", rows)
    np.testing.assert_array_equal(codes[:, 3:-3], np.stack(barnyard.codes))
    assert (codes[:, :3] == 4).all(), "what no record holds is N"
    assert (codes[:, 3:-3] == 4).sum() == sum((c == 4).sum() for c in barnyard.codes) > 0
    windows = store.windows("human")
    assert windows.select("chrom", "start", "end", "split").rows() == barnyard.windows
    assert store.placed("human")
    store.require_placed("human", "a test")


def test_windows_that_overlap_are_one_block_and_parts_share_none(barnyard):
    blocks = imported(barnyard).windows("human")["block"].to_list()
    # Train windows of 256 bp every 200 bp; the two for testing lie apart.
    assert len(set(blocks[:11])) == 1
    assert len(set(blocks[11:13])) == 1
    assert blocks[13] != blocks[14]
    assert len(set(blocks)) == 4


def test_tracks_keep_what_undoes_their_scaling(barnyard):
    store = imported(barnyard)
    dnase, chip, cage = store.tracks("human").rows()
    assert [t.group for t in (dnase, chip, cage)] == ["accessibility", "histone", "CAGE"]
    assert (chip.target, chip.biosample, chip.clip_mode) == ("H3K4me3", "heart", "hard")
    assert (dnase.uncovered, dnase.file) == ("baseline", "1.w5")
    bins = store.targets("human", [0])[0].astype(np.float32)
    np.testing.assert_allclose(untransform(bins[:, 0], dnase), bins[:, 0] / 2, rtol=1e-6)


def test_the_manifest_names_every_file_of_records_and_no_place(barnyard):
    store = imported(barnyard, genome=True)
    entry = store.manifest["species"]["human"]
    records = {f["name"]: f["records"] for f in entry["inputs"]["records"]}
    assert records == {
        "train-0-2.tfr": 4, "train-0-9.tfr": 4, "train-0-10.tfr": 3,
        "valid-0-0.tfr": 2, "test-0-0.tfr": 2,
    }  # fmt: skip
    assert entry["groups"] == {"CAGE": 1, "accessibility": 1, "histone": 1}
    assert entry["split"] == {"test": 2, "train": 11, "valid": 2}
    assert entry["chrom_sizes"] == {"chr1": 4000, "chr2": 4000}
    assert str(barnyard.folder) not in (store.path / "manifest.json").read_text()


def test_a_genome_fills_margins_and_longer_windows_about_the_same_middle(barnyard):
    store = imported(barnyard, genome=True, length=320, margin=8)
    genome = open_genome(barnyard.fasta)
    assert (store.length, store.crop, store.bins) == (320, 4, 12)
    codes = store.sequence("human", np.arange(15))
    for row, (chrom, start, end, _) in enumerate(barnyard.windows):
        expected = genome.fetch(chrom, start - 40, end + 40)
        np.testing.assert_array_equal(codes[row], expected)
        assert store.windows("human").row(row)[:3] == (chrom, start - 32, end + 32)
    np.testing.assert_array_equal(store.targets("human", range(15)), np.stack(barnyard.targets))


def test_a_sequence_that_is_not_the_genomes_names_the_window(barnyard):
    lines = barnyard.fasta.read_text().splitlines()
    at = 128 + 200 * 5 + 7  # in windows 4 (208 bases in) and 5 of chr1
    base = "A" if lines[1][at] != "A" else "C"
    lines[1] = lines[1][:at] + base + lines[1][at + 1 :]
    barnyard.fasta.write_text("\n".join(lines) + "\n")
    message = (
        r"train-0-9\.tfr record 0: its sequence differs from chr1:928-1184 of .*hg\.fa at 1 of "
        r"256 bases, first at chr1:1135"
    )
    with pytest.raises(CislensError, match=message):
        imported(barnyard, genome=True)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_target_that_is_not_finite_is_named(barnyard, value):
    barnyard.targets[5][7, 1] = value
    barnyard.write("train-0-9.tfr", range(4, 8))
    message = rf"train-0-9\.tfr record 1: bin 7 of track 'ENC2' is {value}"
    with pytest.raises(CislensError, match=message):
        imported(barnyard)


def test_a_negative_target_is_named_and_one_by_rounding_is_0(barnyard):
    barnyard.targets[5][7, 1] = -0.0005
    barnyard.write("train-0-9.tfr", range(4, 8))
    found = imported(barnyard, out="rounded").targets("human", [5])[0]
    assert found[7, 1] == 0 and (found[:7] == barnyard.targets[5][:7]).all()
    barnyard.targets[5][7, 1] = -2
    barnyard.write("train-0-9.tfr", range(4, 8))
    message = r"train-0-9\.tfr record 1: bin 7 of track 'ENC2' is -2; profiles are counts"
    with pytest.raises(CislensError, match=message):
        imported(barnyard)


def test_an_empty_file_stops_nothing_where_others_have_records(barnyard):
    whole = imported(barnyard, out="whole")
    barnyard.write("train-0-0.tfr", range(0))
    np.testing.assert_array_equal(
        imported(barnyard).targets("human", range(15)), whole.targets("human", range(15))
    )
    for file in (barnyard.folder / "tfrecords").iterdir():
        barnyard.write(file.name, range(0))
    with pytest.raises(CislensError, match=r"no record file of .* holds a record"):
        plan_import([source(barnyard)])


def test_a_part_without_a_record_is_refused_and_one_without_a_file_named(barnyard, caplog):
    (barnyard.folder / "sequences.bed").unlink()
    edit(barnyard, valid_seqs=0)
    barnyard.write("valid-0-0.tfr", range(0))
    with pytest.raises(CislensError, match=r"files of .* for valid hold no record"):
        imported(barnyard)
    (barnyard.folder / "tfrecords" / "valid-0-0.tfr").unlink()
    assert imported(barnyard).windows("human").height == 13
    assert "has no record for valid" in caplog.text


def test_true_is_no_size(barnyard):
    edit(barnyard, seq_length=True)
    with pytest.raises(CislensError, match="seq_length is True, expected a whole number"):
        open_basenji(barnyard.folder)


def test_a_base_that_is_two_bases_is_named(barnyard, wire):
    raw = bytearray(wire.one_hot(barnyard.codes[0]))
    raw[40:44] = b"\x01\x00\x01\x00"
    record = wire.example(sequence=bytes(raw), target=barnyard.targets[0].tobytes())
    path = barnyard.folder / "tfrecords" / "train-0-2.tfr"
    path.write_bytes(wire.framed(record))
    with pytest.raises(CislensError, match=r"record 0: base 10 .* \[1, 0, 1, 0\]"):
        imported(barnyard)


def test_codes_and_lists_of_floats_are_the_same_data(barnyard, wire):
    whole = content(imported(barnyard).path / "species" / "human" / "sequence")
    for name, rows in (("train-0-2.tfr", range(4)), ("valid-0-0.tfr", range(11, 13))):
        records = [
            wire.example(sequence=barnyard.codes[row].tobytes(), target=barnyard.targets[row])
            for row in rows
        ]
        path = barnyard.folder / "tfrecords" / name
        path.write_bytes(b"".join(map(wire.framed, records)))
    with pytest.raises(CislensError, match="as in the first record"):
        imported(barnyard, out="mixed")
    for name, rows in (
        ("train-0-9.tfr", range(4, 8)), ("train-0-10.tfr", range(8, 11)),
        ("test-0-0.tfr", range(13, 15)),
    ):  # fmt: skip
        records = [
            wire.example(
                sequence=wire.one_hot(barnyard.codes[row]),
                target=barnyard.targets[row].astype("<f4").tobytes(),
            )
            for row in rows
        ]
        path = barnyard.folder / "tfrecords" / name
        path.write_bytes(zlib.compress(b"".join(map(wire.framed, records))))
    store = imported(barnyard, out="others")
    np.testing.assert_array_equal(store.targets("human", range(15)), np.stack(barnyard.targets))
    assert content(store.path / "species" / "human" / "sequence") == whole


def test_sizes_that_leave_a_choice_name_the_crops(barnyard):
    (barnyard.folder / "statistics.json").unlink()
    rows = range(15)
    for row in rows:
        barnyard.targets[row] = np.zeros((8, 3), "<f2")
    for file, part in (("train-0-2.tfr", range(4)), ("train-0-9.tfr", range(4, 8))):
        barnyard.write(file, part)
    message = r"8 bins of float16 \(crop 4\) or 4 bins of float32 \(crop 6\); give the crop"
    with pytest.raises(CislensError, match=message):
        plan_import([source(barnyard)], bin_size=16)
    assert plan_import([source(barnyard)], bin_size=16, crop=6).shape.bins == 4
    assert plan_import([source(barnyard)], bin_size=16, crop=4).shape.bins == 8


def test_a_folder_without_coordinates_is_imported_and_refused_where_they_are_needed(barnyard):
    (barnyard.folder / "sequences.bed").unlink()
    store = imported(barnyard)
    windows = store.windows("human")
    assert set(windows["chrom"]) == {"unplaced"}
    assert windows["start"].to_list() == [256 * row for row in range(15)]
    assert windows["split"].to_list() == [window[3] for window in barnyard.windows]
    assert windows["block"].n_unique() == 15
    assert not store.placed("human")
    with pytest.raises(CislensError, match=r"no place in a genome, which drawing loci needs"):
        store.require_placed("human", "drawing loci")
    with pytest.raises(CislensError, match=r"has no sequences\.bed, so its windows have no place"):
        imported(barnyard, genome=True, out="other")


def test_an_import_that_was_interrupted_gives_the_same_bytes(barnyard, monkeypatch):
    monkeypatch.setattr(basenji_plan, "_MOST_SHARD_ROWS", 4)  # 4 shards of 2 arrays
    whole = content(imported(barnyard, out="whole").path)
    write = basenji_import.write_shard
    for allowed in (1, 4, 5, 7):
        written = []

        def fails(*arguments, written=written, allowed=allowed):
            if len(written) == allowed:
                raise KeyboardInterrupt
            written.append(arguments)
            return write(*arguments)

        out = f"cut{allowed}"
        monkeypatch.setattr(basenji_import, "write_shard", fails)
        with pytest.raises(KeyboardInterrupt):
            imported(barnyard, out=out)
        assert not (barnyard.folder.parent / out).exists()
        resumed = []
        monkeypatch.setattr(
            basenji_import, "write_shard", lambda *a, r=resumed: (r.append(a), write(*a))[1]
        )
        assert content(imported(barnyard, out=out).path) == whole
        assert len(resumed) == 8 - allowed // 2 * 2, "what was written is not written again"
        assert not (barnyard.folder.parent / f"{out}.partial").exists()


def test_an_import_that_ended_at_its_last_step_gives_the_same_bytes(barnyard, monkeypatch):
    monkeypatch.setattr(basenji_plan, "_MOST_SHARD_ROWS", 4)
    whole = content(imported(barnyard, out="whole").path)

    def fails(*_):
        raise KeyboardInterrupt

    steps = {"write_tables": basenji_import, "file_entries": basenji_import, "sync": resuming}
    for step, module in steps.items():
        with monkeypatch.context() as patch:
            patch.setattr(module, step, fails)
            with pytest.raises(KeyboardInterrupt):
                imported(barnyard, out=step)
        assert content(imported(barnyard, out=step).path) == whole


def test_a_full_disk_is_one_message_and_resumes(barnyard, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(basenji_import, "write_shard", full)
        with pytest.raises(CislensError, match=r"the disk is full: .* run the same command again"):
            imported(barnyard)
    assert imported(barnyard).windows("human").height == 15


def test_what_is_imported_is_opened_and_anything_else_is_refused(barnyard):
    first = imported(barnyard)
    assert imported(barnyard).digest == first.digest
    with pytest.raises(CislensError, match="store of other inputs or settings"):
        imported(barnyard, margin=4)


def test_a_missing_or_surplus_file_is_noticed(barnyard):
    (barnyard.folder / "tfrecords" / "train-0-10.tfr").rename(barnyard.folder / "kept")
    with pytest.raises(CislensError, match=r"valid-0-0\.tfr record 0 is for valid.* has train"):
        imported(barnyard)
    (barnyard.folder / "kept").rename(barnyard.folder / "tfrecords" / "train-0-10.tfr")
    (barnyard.folder / "tfrecords" / "test-0-0.tfr").rename(barnyard.folder / "kept")
    with pytest.raises(CislensError, match=r"has 0 records for test, its tables say 2"):
        imported(barnyard)
    (barnyard.folder / "sequences.bed").unlink()
    with pytest.raises(CislensError, match=r"has 0 records for test, its tables say 2"):
        imported(barnyard)


def test_two_species_make_one_store(barnyard):
    tracks = track_table([Track(f"m{i}", "f", "mouse", assay="CAGE") for i in range(3)])
    mouse = BasenjiSource("mouse", open_basenji(barnyard.folder), tracks)
    plan = plan_import([source(barnyard), mouse])
    store = import_basenji(barnyard.folder.parent / "store", plan)
    assert store.species == ("human", "mouse")
    np.testing.assert_array_equal(store.targets("human", [3]), store.targets("mouse", [3]))
    with pytest.raises(CislensError, match="'mouse' is given twice"):
        plan_import([mouse, mouse])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"length": 320}, r"longer than the records of 'human' \(256 bp\); give the genome"),
        ({"length": 300}, "length 300 does not fit: .*choose 288 or 320"),
        ({"length": 128}, "length 128 does not fit: .*choose 256 or 288"),
        ({"margin": -1}, "margin -1 must not be negative"),
        ({"crop": 3}, r"12 bins of float16 \(crop 2\).*give the crop that is right"),
    ],
)
def test_settings_that_do_not_fit_are_refused(barnyard, settings, message):
    with pytest.raises(CislensError, match=message):
        plan_import([source(barnyard)], **settings)


def edit(barnyard, **changes):
    path = barnyard.folder / "statistics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_folder_at_odds_with_itself_is_refused(barnyard):
    edit(barnyard, num_targets=4)
    with pytest.raises(CislensError, match=r"says 4 targets, the track table has 3"):
        plan_import([source(barnyard)])
    edit(barnyard, num_targets=3, pool_width=48)
    with pytest.raises(CislensError, match=r"256 bp are no multiple of bins of 48 bp.*240 or 288"):
        plan_import([source(barnyard)])
    edit(barnyard, pool_width="16")
    with pytest.raises(CislensError, match=r"pool_width is '16', expected a whole number"):
        plan_import([source(barnyard)])
    edit(barnyard, pool_width=16, target_length=11)
    with pytest.raises(CislensError, match=r"12 bins of float16"):
        plan_import([source(barnyard)])


def test_windows_of_another_length_than_the_records_are_refused(barnyard):
    text = (barnyard.folder / "sequences.bed").read_text().replace("328\t584", "328\t585")
    (barnyard.folder / "sequences.bed").write_text(text)
    message = r"sequences\.bed has a window chr1:328-585 of 257 bp, .* have 256 bp"
    with pytest.raises(CislensError, match=message):
        plan_import([source(barnyard)])


def test_small_files_that_are_damaged_are_named(barnyard):
    (barnyard.folder / "sequences.bed").write_text("chr1\t0\t256\ttrain\nchr1\t0\t256\tdev\n")
    with pytest.raises(CislensError, match=r"sequences\.bed line 2: part 'dev'"):
        open_basenji(barnyard.folder)
    (barnyard.folder / "sequences.bed").write_text("chr1\t0\n")
    with pytest.raises(CislensError, match=r"sequences\.bed line 1: expected chromosome"):
        open_basenji(barnyard.folder)
    (barnyard.folder / "statistics.json").write_text("{")
    with pytest.raises(CislensError, match=r"statistics\.json is not JSON"):
        open_basenji(barnyard.folder)
    (barnyard.folder / "tfrecords" / "fold3.tfr").write_bytes(b"")
    with pytest.raises(CislensError, match=r"fold3\.tfr: its name does not tell"):
        open_basenji(barnyard.folder)
    with pytest.raises(CislensError, match="has no record file"):
        open_basenji(barnyard.fasta.parent)


def test_windows_on_a_chromosome_that_the_genome_has_not_are_refused(barnyard):
    text = (barnyard.folder / "sequences.bed").read_text().replace("chr2", "chrII")
    (barnyard.folder / "sequences.bed").write_text(text)
    with pytest.raises(CislensError, match=r"hg\.fa has no chromosome 'chrII'"):
        imported(barnyard, genome=True)


def test_real_records_become_a_store(core_data, tmp_path):
    folder = tmp_path / "cage10"
    folder.mkdir()
    (folder / Path(CAGE).name).symlink_to(core_data / CAGE)
    tracks = track_table(
        Track(f"c{i}", "f", "human", assay="CAGE", clip=384, clip_mode="hard") for i in range(10)
    )
    plan = plan_import([BasenjiSource("human", open_basenji(folder), tracks)])
    store = import_basenji(tmp_path / "store", plan)
    assert (store.length, store.bins, store.crop) == (262_144, 2048, 0)
    rows = np.arange(10)
    codes, bins = store.sequence("human", rows), store.targets("human", rows)
    # Counted once with the tfrecord package 1.14.6, whose arrays were equal in every element.
    counts = np.bincount(codes.ravel(), minlength=5)
    assert counts.tolist() == [776_674, 526_579, 534_355, 783_832, 60]
    assert bins.max() == 100
    assert store.windows("human")["split"].to_list() == ["train"] * 10


def test_an_imported_store_is_trained_on_like_any_other(barnyard):
    loader = ProfileLoader(imported(barnyard), "train", 11, shift=3)
    batch = loader.batch(0, 0)
    assert batch.codes_BL.shape == (11, 256)
    assert batch.targets["human"].shape == (11, 12, 3)
    total = sum(bins.astype(np.float32).sum() for bins in barnyard.targets[:11])
    assert batch.targets["human"].sum() == pytest.approx(total, rel=1e-5)
