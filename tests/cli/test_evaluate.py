"""`cislens evaluate` on a real store of two species with small untrained models."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from typer.testing import CliRunner

import cislens.evaluation.profiles.run as run_module
from cislens.cli.app import app
from cislens.cli.data import plan_store
from cislens.cli.evaluate import read_arms
from cislens.errors import CislensError
from cislens.evaluation.profiles import baselines
from cislens.genome.codes import one_hot
from cislens.models.presets import preset_config
from cislens.models.profile import ProfileModel, build_model
from cislens.models.saving import load_model, save_model
from cislens.recipes.profiles import DataRecipe
from cislens.recipes.reading import read_recipe
from cislens.signal.build import build_planned
from cislens.signal.datacard import FILE_NAME, DataCard
from cislens.signal.store import ProfileStore
from cislens.signal.tracks import Track, track_table

Make = Callable[..., Path]


def evaluate(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(
        app, ["evaluate", *map(str, arguments), "--json"], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def refused(*arguments: object) -> str:
    with pytest.raises(CislensError) as caught:
        CliRunner().invoke(app, ["evaluate", *map(str, arguments)], catch_exceptions=False)
    return str(caught.value)


def all_tracks(store: ProfileStore) -> list[Track]:
    return [row for species in store.species for row in store.tracks(species).rows()]


def model_of(tracks: list[Track], seed: int, **changes: Any) -> ProfileModel:
    by_species: dict[str, list[str]] = {}
    for track in tracks:
        by_species.setdefault(track.species, []).append(track.id)
    settings = {"dim": 24, "stem_dim": 8, "depth": 1, "heads": 2, **changes}
    torch.manual_seed(seed)
    return build_model(preset_config("enformer-tiny", by_species, **settings))


@pytest.fixture(scope="module", autouse=True)
def short_words() -> Iterator[None]:
    """Words of up to three bases: the ridge on longer ones has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "_LONGEST", 3)
        yield


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, small_store: ProfileStore) -> Make:
    """Writes a run folder with an untrained model."""

    def write(
        name: str,
        tracks: list[Track] | None = None,
        seed: int = 0,
        length: int = 1024,
        trained_on: ProfileStore | None = small_store,
        model: ProfileModel | None = None,
        **changes: Any,
    ) -> Path:
        tracks = all_tracks(small_store) if tracks is None else tracks
        folder = tmp_path_factory.mktemp("runs") / name
        folder.mkdir()
        model = model or model_of(tracks, seed, **changes)
        card = DataCard(length, track_table(tracks))
        save_model(model, folder / "model", "# untrained\n", {FILE_NAME: card.to_json()})
        if trained_on is not None:
            store = {"path": str(trained_on.path), "digest": trained_on.digest}
            (folder / "manifest.json").write_text(json.dumps({"store": store}))
        return folder

    return write


@pytest.fixture(scope="module")
def runs(make: Make) -> tuple[Path, Path]:
    return make("one", seed=1), make("two", seed=2)


@pytest.fixture(scope="module")
def done(
    tmp_path_factory: pytest.TempPathFactory, runs: tuple[Path, Path], small_store: ProfileStore
) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("evaluated") / "out"
    arms = (runs[0], f"both={runs[0]},{runs[1]}")
    return out, evaluate(*arms, "--store", small_store.path, "--out", out, "--draws", 200)


def test_scores_are_those_of_the_predictions_themselves(
    done: tuple[Path, dict[str, Any]], runs: tuple[Path, Path], small_store: ProfileStore
) -> None:
    scores = pl.read_parquet(done[0] / "profiles.parquet")
    model = load_model(runs[1] / "model")
    for species in small_store.species:
        rows = np.flatnonzero((small_store.windows(species)["split"] == "test").to_numpy())
        x_B4L = torch.from_numpy(one_hot(small_store.sequence(species, rows)[:, 3:-3]))
        with torch.no_grad():
            rate_BNT = model(x_B4L, species, crop=True).transpose(1, 2).double().numpy()
        target_BNT = small_store.targets(species, rows).astype(np.float64)
        expected = [
            np.corrcoef(rate_BNT[:, :, t].ravel(), target_BNT[:, :, t].ravel())[0, 1]
            for t in range(target_BNT.shape[2])
        ]
        mine = scores.filter(
            pl.col("species") == species, pl.col("arm") == "both", pl.col("seed") == 1,
            pl.col("metric") == "pearson_pooled", pl.col("track") == "all",
        ).filter(pl.col("tracks") == len(expected))  # fmt: skip
        assert mine["value"][-1] == pytest.approx(np.mean(expected), abs=1e-6)


def test_tables_are_complete_and_paired(
    done: tuple[Path, dict[str, Any]], small_store: ProfileStore
) -> None:
    scores = pl.read_parquet(done[0] / "profiles.parquet")
    arms = {"one", "both", "mean-profile", "gc-ridge", "kmer-ridge"}
    for _, rows in scores.filter(pl.col("seed").is_null()).group_by(
        "species", "group", "track", "metric"
    ):
        assert set(rows["arm"]) == arms and len(rows) == 5
        assert (rows["low"] <= rows["high"]).all()
    assert set(scores.filter(species="yeast")["group"]) == {"accessibility", "nucleosome", "all"}
    both = scores.filter(pl.col("arm") == "both")
    for _, rows in both.group_by("species", "group", "track", "metric"):
        seeds = rows.filter(pl.col("seed").is_not_null())["value"]
        assert len(seeds) == 2
        assert rows.filter(pl.col("seed").is_null())["value"][0] == pytest.approx(seeds.mean())
    differences = pl.read_parquet(done[0] / "differences.parquet")
    assert set(differences.filter(arm="both")["comparison"]) == {"best baseline", "first arm"}
    assert set(differences.filter(arm="one")["comparison"]) == {"best baseline"}
    assert (differences["p_holm"] >= differences["p"]).all()
    first = differences.filter(comparison="first arm", group="all", metric="pearson_pooled")
    values = scores.filter(
        pl.col("group") == "all", pl.col("track") == "all", pl.col("metric") == "pearson_pooled",
        pl.col("seed").is_null(),
    )  # fmt: skip
    one, two = (values.filter(pl.col("arm") == arm)["value"][0] for arm in ("one", "both"))
    assert first["difference"][0] == pytest.approx(two - one)


def test_untrained_models_lose_against_words(done: tuple[Path, dict[str, Any]]) -> None:
    found = pl.DataFrame(done[1]["differences"]).filter(
        pl.col("metric") == "pearson_pooled", pl.col("species") == "yeast",
        pl.col("comparison") == "best baseline",
    )  # fmt: skip
    assert set(found["baseline"]) == {"kmer-ridge"} and set(found["outcome"]) == {"loss"}


def test_page_is_whole(done: tuple[Path, dict[str, Any]]) -> None:
    page = (done[0] / "report.html").read_text()
    assert done[1]["report"] == str(done[0] / "report.html")
    for text in ("Scores by assay group", "accessibility", "kmer-ridge", "both vs one", "MDE"):
        assert text in page, text
    assert page.count("<svg") >= 10 and ">nan" not in page and "None" not in page


def test_order_of_tracks_changes_nothing(
    make: Make, runs: tuple[Path, Path], small_store: ProfileStore, tmp_path: Path
) -> None:
    model = load_model(runs[0] / "model")
    tracks = all_tracks(small_store)
    turned = [*tracks[:3][::-1], *tracks[3:]]
    other = model_of(turned, 9)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    for key, value in weights.items():
        if key.startswith("heads.0."):
            weights[key] = value.flip(0)
    other.load_state_dict(weights)
    arms = (runs[0], make("turned", turned, model=other))
    out = tmp_path / "out"
    evaluate(*arms, "--store", small_store.path, "--out", out, "--draws", 100)
    scores = pl.read_parquet(out / "profiles.parquet")
    keys = ["species", "group", "track", "metric"]
    joined = scores.filter(arm="one").join(scores.filter(arm="turned"), on=keys)
    assert len(joined) == len(scores.filter(arm="one"))
    np.testing.assert_allclose(joined["value"], joined["value_right"], atol=1e-6)


def test_complete_sums_are_kept_and_a_missing_one_is_made_again(
    make: Make, runs: tuple[Path, Path], small_store: ProfileStore, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    arguments = ("--store", small_store.path, "--out", out, "--draws", 100)
    killed = run_module.predict_baseline

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "predict_baseline", kill)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        result = CliRunner().invoke(
            app, ["evaluate", *map(str, (runs[0], *arguments))], catch_exceptions=False
        )
        raise SystemExit(result.exit_code)
    assert not (out / "profiles.parquet").exists()
    monkeypatch.setattr(run_module, "predict_baseline", killed)
    kept = out / "sums" / "one" / "seed0" / "yeast.test.npz"
    before, lost = kept.stat().st_mtime_ns, out / "sums" / "one" / "seed0" / "fly.test.npz"
    lost.unlink()
    evaluate(runs[0], *arguments)
    assert kept.stat().st_mtime_ns == before and lost.exists()
    # Another arm may join; nothing else may change.
    evaluate(runs[0], runs[1], *arguments)
    assert kept.stat().st_mtime_ns == before
    assert "another recipe" in refused(runs[0], runs[1], *arguments, "--split", "valid")
    message = refused(f"one={runs[1]}", f"two={runs[1]}", *arguments)
    assert "another recipe" in message


def test_dry_run_writes_nothing(
    runs: tuple[Path, Path], small_store: ProfileStore, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    plan = evaluate(
        *runs, "--store", small_store.path, "--out", out, "--average", "rc,shift", "--dry-run"
    )
    assert not out.exists()
    windows = sum(
        int((small_store.windows(name)["split"] == "test").sum()) for name in small_store.species
    )
    assert plan["bases_to_predict"] == 2 * 6 * windows * 1024
    assert plan["arms"]["one"] == {"seeds": 1, "tracks": {"yeast": 3, "fly": 1}}


def test_only_shared_tracks_and_species_are_judged(
    make: Make, small_store: ProfileStore, tmp_path: Path
) -> None:
    some = [row for row in all_tracks(small_store) if row.group == "accessibility"]
    extra = Track("not-in-store", "x.bw", "yeast")
    out = tmp_path / "out"
    found = evaluate(
        make("some", [extra, *some]), "--store", small_store.path, "--out", out, "--draws", 100
    )
    scores = pl.read_parquet(out / "profiles.parquet")
    assert set(scores["track"]) == {"all", *(row.id for row in some)}
    assert any("1 tracks of the store are left out" in note for note in found["notes"])
    assert any("no arm predicts it: fly" in note for note in found["notes"])


def test_windows_that_a_model_learned_are_left_out(
    make: Make, small_store: ProfileStore, tmp_path: Path
) -> None:
    """A run of a store that parts the same windows otherwise has seen most of this test part."""
    recipe = tmp_path / "data.yaml"
    recipe.write_text(
        "genomes: {yeast: example:yeast_mini/sacCer3_II_IV_XVI.fa.gz}\n"
        f"tracks: {_yeast_tracks(tmp_path)}\nlength: 1024\nstride: 4096\nseed: 5\n"
        "split: {block_bp: 65536}\n"
    )
    other = build_planned(tmp_path / "store", plan_store(read_recipe(recipe, DataRecipe)))
    yeast = small_store.tracks("yeast").rows()
    leaky = make("leaky", yeast, trained_on=other)
    out = tmp_path / "out"
    found = evaluate(leaky, "--store", small_store.path, "--out", out, "--draws", 100)
    mine, theirs = small_store.windows("yeast"), other.windows("yeast")
    learned = theirs.filter(pl.col("split") != "test").select("chrom", "start")
    test = mine.filter(split="test")
    seen = len(test.join(learned, on=["chrom", "start"]))
    kept = pl.read_parquet(out / "profiles.parquet")["windows"][0]
    assert seen > len(test) // 2 and kept <= len(test) - seen
    assert any("windows are left out, as they resemble" in note for note in found["notes"])


def test_a_model_of_unknown_training_is_warned_of(
    make: Make, small_store: ProfileStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    alone = make("alone", small_store.tracks("fly").rows(), trained_on=None) / "model"
    found = evaluate(alone, "--store", small_store.path, "--out", tmp_path / "out", "--draws", 100)
    assert any("not known what alone was trained on" in note for note in found["notes"])
    assert "is not known or not there" in caplog.text
    assert (tmp_path / "out" / "sums" / "alone" / "seed0" / "fly.test.npz").exists()


def test_what_does_not_fit_is_refused_before_anything_is_written(
    make: Make, runs: tuple[Path, Path], small_store: ProfileStore, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    tail = ("--store", small_store.path, "--out", out)
    fly = small_store.tracks("fly").rows()
    other = [Track("elsewhere", "x.bw", "fly")]
    scaled = [Track(**{**vars(fly[0]), "scale": 7.0})]
    cases = {
        "no track of a species in common": make("other", other),
        "another scale": make("scaled", scaled),
        "length 2048": make("long", fly, length=2048),
        "bin_size 64": make("fine", fly, bin_size=64),
        "crop 1": make("cropped", fly, crop=1),
    }
    for message, folder in cases.items():
        assert message in refused(folder, *tail)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "neither a run nor a model folder" in refused(empty, *tail)
    (empty / "recipe.yaml").write_text("")
    assert "not finished" in refused(empty, *tail)
    assert "does not exist" in refused(tmp_path / "nowhere", *tail)
    assert "name of a baseline" in refused(f"gc-ridge={runs[0]}", *tail)
    assert "'tset'" in refused(runs[0], *tail, "--split", "tset")
    assert "none of rc, shift" in refused(runs[0], *tail, "--average", "both")
    three = make("three", seed=3)
    seeds = (f"a={runs[0]},{runs[1]}", f"b={runs[0]},{runs[1]},{three}")
    assert "different numbers of runs" in refused(*seeds, *tail)
    assert not out.exists()


def test_what_is_no_folder_of_an_evaluation_is_left_alone(
    runs: tuple[Path, Path], small_store: ProfileStore, tmp_path: Path
) -> None:
    before = sorted(path.name for path in small_store.path.iterdir())
    tail = ("--store", small_store.path, "--out")
    assert "holds manifest.json but no recipe.yaml" in refused(runs[0], *tail, small_store.path)
    assert sorted(path.name for path in small_store.path.iterdir()) == before
    file = tmp_path / "file"
    file.write_text("kept")
    assert "is a file; name a folder" in refused(runs[0], *tail, file)
    (tmp_path / "recipe.yaml").write_text("store: elsewhere\n")
    assert "another recipe" in refused(runs[0], *tail, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "recipe.yaml"]


def test_the_valid_part_is_called_what_models_were_chosen_on(
    make: Make, small_store: ProfileStore, tmp_path: Path
) -> None:
    fly = make("fly", small_store.tracks("fly").rows())
    tail = ("--store", small_store.path, "--out", tmp_path / "out", "--draws", 100)
    found = evaluate(fly, *tail, "--split", "valid")
    assert any("were chosen on them" in note for note in found["notes"])


def test_arms_are_read_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "a=b").mkdir()
    found = read_arms([f"{tmp_path}/run/model", f"x={tmp_path}/r1,{tmp_path}/r2"])
    assert found == {"run": [tmp_path / "run" / "model"], "x": [tmp_path / "r1", tmp_path / "r2"]}
    assert read_arms([f"x={tmp_path}/a=b"]) == {"x": [tmp_path / "a=b"]}
    with pytest.raises(CislensError, match="arm 'a=b': names take"):
        read_arms([f"{tmp_path}/a=b"])
    with pytest.raises(CislensError, match="another name"):
        read_arms([f"{tmp_path}/1/run", f"{tmp_path}/2/run"])
    with pytest.raises(CislensError, match="given twice"):
        read_arms([f"x={tmp_path},{tmp_path}"])
    for name in ("a/b", ".", "..", "-a", ".a"):
        with pytest.raises(CislensError, match="names take letters"):
            read_arms([f"{name}={tmp_path}"])
    with pytest.raises(CislensError, match="is not"):
        read_arms(["x="])


def _yeast_tracks(folder: Path) -> Path:
    from cislens.example import example_path

    table = pl.read_csv(example_path("tracks.tsv"), separator="\t").filter(species="yeast")
    root = str(example_path("tracks.tsv").parent)
    path = folder / "tracks.tsv"
    table.with_columns(file=pl.lit(root + "/") + pl.col("file")).write_csv(path, separator="\t")
    return path
