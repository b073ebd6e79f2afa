"""Predictions as files: their values, their bytes after a kill, and what is refused."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import zarr

from cislens.effects import track_run
from cislens.effects.track_model import TrackModel
from cislens.effects.track_plan import plan_prediction
from cislens.effects.track_run import Prediction
from cislens.effects.tracks import predict
from cislens.engines import HERE
from cislens.errors import CislensError
from cislens.files import claimed
from cislens.genome.reference import Genome
from cislens.models.presets import preset_config
from cislens.models.profile import build_model
from cislens.models.saving import save_model
from cislens.signal.bigwig import read_windows
from cislens.signal.datacard import FILE_NAME, DataCard
from cislens.signal.tracks import Track, track_table

BIN, CROP, LENGTH = 16, 2, 128
SIZES = {"chr2": 1501, "chr1": 332}
TRACKS = [
    Track("AT/AC", "here/a.bw", "yeast", "ATAC", scale=2.0),
    Track("plus", "p.bw", "yeast", "CAGE", strand="+", strand_pair="minus"),
    Track("minus", "m.bw", "yeast", "CAGE", strand="-", strand_pair="plus"),
]
FILES = ["AT_AC.bw", "plus.bw", "minus.bw"]


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    return written_genome(tmp_path_factory.mktemp("genome"), SIZES)


def written_genome(folder: Path, sizes: dict[str, int], seed: int = 1) -> Genome:
    rng = np.random.default_rng(seed)
    text = [f">{name}\n{''.join(rng.choice(list('ACGT'), size))}\n" for name, size in sizes.items()]
    (folder / "small.fa").write_text("".join(text))
    return Genome(folder / "small.fa")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    for seed in range(2):
        torch.manual_seed(seed)
        config = preset_config(
            "enformer-tiny", {"yeast": [row.id for row in TRACKS]}, crop=CROP, dim=32, stem_dim=16,
            bin_size=BIN, depth=1,
        )  # fmt: skip
        card = DataCard(LENGTH, track_table(TRACKS)).to_json()
        save_model(build_model(config), folder / str(seed), "# untrained\n", {FILE_NAME: card})
    return [folder / "0", folder / "1"]


Plan = Callable[..., Prediction]


@pytest.fixture
def plan(
    genome: Genome, models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Plan:
    """A prediction of both chromosomes in six stretches of six windows or fewer."""
    monkeypatch.setattr(track_run, "_STRETCH_WINDOWS", 6)

    def make(out: str = "out", **more: object) -> Prediction:
        given = {"models": models[:1], "genome": genome, "regions": None, "batch_size": 3, **more}
        return plan_prediction(out=tmp_path / out, **given)  # type: ignore[arg-type]

    return make


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_bigwigs_hold_what_predict_gives(
    plan: Plan, genome: Genome, models: list[Path], tmp_path: Path
) -> None:
    paths = plan().run()
    assert [path.name for path in paths] == FILES
    found = predict(TrackModel.load(models[0]), genome, batch_size=3)
    for index, path in enumerate(paths):
        for chrom, size in SIZES.items():
            here = found.region(chrom, 0, size).values_RT[:, index]
            read = read_windows(path, [chrom], [0], size)[0]
            np.testing.assert_array_equal(read, np.repeat(here, BIN)[:size])


def test_all_formats_hold_the_same_mean_and_spread(
    plan: Plan, genome: Genome, models: list[Path], tmp_path: Path
) -> None:
    where = pl.DataFrame({"chrom": ["chr1", "chr2"], "start": [40, 700], "end": [332, 1400]})
    formats = ["zarr", "bigwig", "parquet"]
    plan(models=models, regions=where, formats=formats).run()
    found = predict(models, genome, where, batch_size=3)
    assert found.spread_RT is not None
    table = pl.read_parquet(tmp_path / "out" / "predictions.parquet")
    ids = ["AT/AC", "plus", "minus"]
    assert table.columns[:3] == ["chrom", "start", "end"]
    assert table.select("chrom", "start", "end").equals(found.bins)
    np.testing.assert_array_equal(table.select(ids).to_numpy(), found.values_RT)
    spreads = table.select(f"{name}.spread" for name in ids).to_numpy()
    np.testing.assert_array_equal(spreads, found.spread_RT)
    group = zarr.open_group(tmp_path / "out" / "predictions.zarr", mode="r")
    np.testing.assert_array_equal(group["values"][:], found.values_RT)  # type: ignore[index]
    np.testing.assert_array_equal(group["spread"][:], found.spread_RT)  # type: ignore[index]
    chroms = [group.attrs["chroms"][at] for at in group["chrom"][:]]  # type: ignore[index, union-attr, call-overload]
    assert chroms == found.bins["chrom"].to_list()
    assert group["start"][:].tolist() == found.bins["start"].to_list()  # type: ignore[index, union-attr]
    assert group["end"][:].tolist() == found.bins["end"].to_list()  # type: ignore[index, union-attr]
    assert group.attrs["tracks"] == ids
    row = found.bins.with_row_index().filter(chrom="chr1", start=48)["index"][0]
    read = read_windows(tmp_path / "out" / "plus.spread.bw", ["chr1"], [48], 16)[0]
    assert (read == found.spread_RT[row, 1]).all()


def test_bases_that_were_not_asked_for_have_no_value(plan: Plan) -> None:
    where = pl.DataFrame({"chrom": ["chr1"], "start": [40], "end": [50]})
    path = plan(regions=where).run()[0]
    read = read_windows(path, ["chr1"], [0], 332)[0]
    np.testing.assert_array_equal(np.flatnonzero(~np.isnan(read)), np.arange(32, 64))
    assert np.isnan(read_windows(path, ["chr2"], [0], 1501)).all()


class Killed(BaseException):
    """What no handler catches."""


def kill_at(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, calls: int
) -> Callable[[], None]:
    """Let a function die at its n-th call; the answer undoes it."""
    real, count = getattr(owner, name), [0]

    def mortal(*arguments: object, **more: object) -> object:
        count[0] += 1
        if count[0] == calls:
            raise Killed
        return real(*arguments, **more)

    monkeypatch.setattr(owner, name, mortal)
    return lambda: monkeypatch.setattr(owner, name, real)


EVERY = ["bigwig", "parquet", "zarr"]


@pytest.mark.parametrize(
    ("name", "calls"), [("_save", 1), ("_save", 3), ("_write_tracks", 1), ("_filled", 4)]
)
def test_a_killed_prediction_ends_with_the_same_bytes(
    plan: Plan, models: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str,
    calls: int,
) -> None:  # fmt: skip
    plan("whole", models=models, formats=EVERY).run()
    revive = kill_at(monkeypatch, Prediction, name, calls)
    with pytest.raises(Killed):
        plan(models=models, formats=EVERY).run()
    revive()
    assert not (tmp_path / "out" / "manifest.json").exists()
    again = plan(models=models, formats=EVERY)
    done = len(again._done())
    assert done == (len(again._stretches()) if name == "_write_tracks" else calls - 1)
    # What a process leaves that cannot clean up after itself.
    (tmp_path / "out" / ".plus.bw.1.2.partial").write_text("half")
    again.run()
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_only_what_is_missing_is_predicted_again(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    revive = kill_at(monkeypatch, Prediction, "_save", 4)
    with pytest.raises(Killed):
        plan().run()
    revive()
    again = plan()
    seen: list[slice] = []
    real = track_run.predicted_batches

    def watched(*given: object) -> object:
        seen.extend(given[3])  # type: ignore[arg-type]
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(track_run, "predicted_batches", watched)
    again.run()
    assert [part.start for part in seen] == list(range(18, again.tiling.windows, 3))


def test_a_finished_prediction_is_not_made_again(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = plan().run()
    before = contents(tmp_path / "out")
    kill_at(monkeypatch, Prediction, "_predict", 1)
    assert plan().run() == first
    assert contents(tmp_path / "out") == before
    assert set(before) == {*FILES, "manifest.json", "tracks.tsv"}


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"average": "none"}, "average"),
        ({"trim": 3}, "trim"),
        ({"tracks": 'id == "plus"'}, "tracks"),
        ({"batch_size": 4}, "batch_size"),
        ({"formats": ["zarr"]}, "formats"),
        ({"precision": "bf16"}, "precision"),
        ({"regions": pl.DataFrame({"chrom": ["chr1"], "start": [0], "end": [9]})}, "bins"),
    ],
)
def test_a_folder_of_other_settings_is_refused(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, finished: bool,
    change: dict[str, object], named: str,
) -> None:  # fmt: skip
    if finished:
        plan().run()
    else:
        kill_at(monkeypatch, Prediction, "_save", 2)
        with pytest.raises(Killed):
            plan().run()
    before = contents(tmp_path / "out")
    with pytest.raises(CislensError, match=f"prediction with other {named}"):
        plan(**change)
    assert contents(tmp_path / "out") == before


def test_another_model_or_genome_is_refused(plan: Plan, models: list[Path], tmp_path: Path) -> None:
    plan().run()
    with pytest.raises(CislensError, match="other models"):
        plan(models=models[1:])
    # The same names and lengths, other bases.
    with pytest.raises(CislensError, match="other genome"):
        plan(genome=written_genome(tmp_path, SIZES, seed=2))


@pytest.mark.parametrize("name", ["plus.bw", "tracks.tsv"])
def test_files_of_somebody_else_are_not_replaced(plan: Plan, tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(CislensError, match=rf"{name} exists already"):
        plan()
    assert (tmp_path / "out" / name).read_text() == "mine"


def test_a_folder_of_something_else_is_called_so(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text('{"format": "cislens run"}')
    with pytest.raises(CislensError, match="out holds something else"):
        plan()


def test_parts_without_their_settings_are_not_gone_on_with(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plan("whole").run()
    with monkeypatch.context() as patch:
        kill_at(patch, Prediction, "_save", 3)
        with pytest.raises(Killed):
            plan(average="none").run()
    (tmp_path / "out" / ".parts" / "settings.json").unlink()
    assert plan().plan()["parts_done"] == 0
    plan().run()
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_what_a_run_left_that_was_killed_at_its_very_end_is_removed(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        kill_at(patch, track_run.shutil, "rmtree", 1)
        with pytest.raises(Killed):
            plan(formats=["bigwig"]).run()
    assert (tmp_path / "out" / ".parts" / "00000000.npy").exists()
    plan(formats=["bigwig"]).run()
    assert not (tmp_path / "out" / ".parts").exists()


def test_a_folder_may_be_called_like_a_pattern(plan: Plan, tmp_path: Path) -> None:
    plan("out[1]", formats=["parquet"]).run()
    plan("plain", formats=["parquet"]).run()
    assert contents(tmp_path / "out[1]") == contents(tmp_path / "plain")


def test_a_model_that_is_given_twice_is_refused(plan: Plan, models: list[Path]) -> None:
    with pytest.raises(CislensError, match="are the same model"):
        plan(models=[models[0], models[1], models[0]])


def test_a_track_that_is_called_like_a_column_is_refused(plan: Plan, tmp_path: Path) -> None:
    config = preset_config("enformer-tiny", {"yeast": ["start"]}, dim=32, stem_dim=16,
                           bin_size=BIN, depth=1)  # fmt: skip
    card = DataCard(LENGTH, track_table([Track("start", "a.bw", "yeast")])).to_json()
    save_model(build_model(config), tmp_path / "model", "# untrained\n", {FILE_NAME: card})
    assert plan(models=[tmp_path / "model"]).files == ["start.bw"]
    with pytest.raises(CislensError, match="two columns 'start'"):
        plan(models=[tmp_path / "model"], formats=["parquet"])


def test_two_processes_do_not_predict_into_one_folder(plan: Plan, tmp_path: Path) -> None:
    with (
        claimed(tmp_path / "out" / ".parts", "predicting into"),
        pytest.raises(CislensError, match="another process is predicting into"),
    ):
        plan().run()


def test_a_value_that_is_not_finite_is_refused(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = track_run.predicted_batches

    def broken(*given: object) -> object:
        for rows, values_TR, spread_TR in real(*given):  # type: ignore[arg-type]
            if rows.start <= 70 < rows.stop:
                values_TR[1, 70 - rows.start] = np.inf
            yield rows, values_TR, spread_TR

    monkeypatch.setattr(track_run, "predicted_batches", broken)
    with pytest.raises(CislensError, match="not finite for track 'plus' at chr2:1120"):
        plan().run()
    assert not list((tmp_path / "out").glob("*.bw"))


def test_a_disk_that_is_too_small_is_said_before(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(CislensError, match="needs about 2,760 bytes and 1,000 are free"):
        plan()


def test_ids_that_meet_in_a_name_with_their_spread_are_refused(
    plan: Plan, models: list[Path], tmp_path: Path
) -> None:
    rows = [Track("a", "a.bw", "yeast"), Track("a.spread", "a.bw", "yeast")]
    config = preset_config("enformer-tiny", {"yeast": ["a", "a.spread"]}, dim=32, stem_dim=16,
                           bin_size=BIN, depth=1)  # fmt: skip
    card = DataCard(LENGTH, track_table(rows)).to_json()
    save_model(build_model(config), tmp_path / "model", "# untrained\n", {FILE_NAME: card})
    assert len(plan(models=[tmp_path / "model"]).files) == 2
    with pytest.raises(CislensError, match=r"written to a\.spread\.bw"):
        plan(models=[tmp_path / "model"] * 2)


def test_the_table_beside_the_files_says_what_they_are(plan: Plan, tmp_path: Path) -> None:
    plan(tracks='strand == "."').run()
    table = pl.read_csv(tmp_path / "out" / "tracks.tsv", separator="\t")
    row = table.row(0, named=True)
    assert table.height == 1
    assert (row["id"], row["file"], row["measured"]) == ("AT/AC", "AT_AC.bw", "a.bw")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["bins"] == 94 + 21
    assert manifest["files"] == ["AT_AC.bw"]


def test_memory_does_not_grow_with_the_values(plan: Plan, tmp_path: Path) -> None:
    """A window more costs its number and place; its values would be 720 bytes."""
    config = preset_config("enformer-tiny", {"yeast": [row.id for row in TRACKS]}, crop=CROP,
                           dim=32, stem_dim=16, bin_size=BIN, depth=1)  # fmt: skip
    card = DataCard(1024, track_table(TRACKS)).to_json()
    save_model(build_model(config), tmp_path / "wide", "# untrained\n", {FILE_NAME: card})
    peaks, windows = [], []
    for times in (1, 4):
        folder = tmp_path / str(times)
        folder.mkdir()
        genome = written_genome(folder, {"chr1": 60_000 * times})
        prediction = plan(f"out-{times}", genome=genome, models=[tmp_path / "wide"], average="none")
        genome.chromosome("chr1")
        tracemalloc.start()
        prediction._predict(HERE)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        windows.append(prediction.tiling.windows)
    assert windows == [63, 250]
    assert peaks[1] - peaks[0] < 360 * (windows[1] - windows[0])


@pytest.mark.peers
def test_pybigwig_reads_the_files(plan: Plan, genome: Genome, models: list[Path]) -> None:
    pybigwig = pytest.importorskip("pyBigWig", reason="pyBigWig of the `peers` extra is missing")
    paths = plan().run()
    found = predict(models[0], genome, batch_size=3)
    for index, path in enumerate(paths):
        with pybigwig.open(str(path)) as file:
            assert file.chroms() == SIZES
            for chrom, size in SIZES.items():
                here = found.region(chrom, 0, size)
                expected = zip(
                    here.bins["start"], here.bins["end"], here.values_RT[:, index], strict=True
                )
                for got, wanted in zip(file.intervals(chrom), expected, strict=True):
                    assert got[:2] == wanted[:2]
                    assert got[2] == pytest.approx(wanted[2], rel=1e-6)
