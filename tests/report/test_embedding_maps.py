"""Maps of embeddings: the plane, who may shape it, and the dots in it."""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from cislens.errors import CislensError
from cislens.evaluation.bench import run_bench
from cislens.genome.codes import Codes
from cislens.recipes.schema import BenchSettings
from cislens.report import embedding_maps
from cislens.report.figures.maps import embedding_map
from cislens.representations.cache import kept_features
from cislens.representations.contract import Features, Kind

sys.path.append(str(Path(__file__).parents[1] / "evaluation"))
from plants import MOTIF, motif_task

TASK = motif_task(300, length=60)


class Planted:
    """Four features say whether the motif is there, two are noise, one never changes."""

    kind: Kind = "trained"
    parameters = 0
    name, digest = "planted", "planted/1"

    def embed(
        self, sequences: Sequence[Codes], species: str | None, stranded: bool = False
    ) -> Features:
        windows = np.lib.stride_tricks.sliding_window_view(np.stack(sequences), len(MOTIF), axis=1)
        strands = [(windows == site).sum(-1).max(-1) for site in (MOTIF, 3 - MOTIF[::-1])]
        there_N = np.maximum(*strands) == len(MOTIF)
        noise_N6 = np.stack([np.random.default_rng(codes).normal(size=6) for codes in sequences])
        noise_N6[:, :4] = 0.1 * noise_N6[:, :4] + there_N[:, None]
        return np.pad(noise_N6, ((0, 0), (0, 1)), constant_values=7.0).astype(np.float32)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "results"
    run_bench([TASK], [Planted()], BenchSettings(seeds=2, cnn=[], kmer=2), folder)
    return folder


def test_planted_classes_lie_apart_and_test_examples_shape_nothing(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[np.ndarray] = []
    whole = embedding_maps.principal_plane
    monkeypatch.setattr(
        embedding_maps, "principal_plane", lambda values: (fitted.append(values), whole(values))[1]
    )
    found = embedding_maps.embedding_maps(results)
    assert [(each.arm, each.kind, each.method) for each in found] == [
        ("planted", "trained", "PCA"), ("kmer-1to5", "composition", "PCA"),
    ]  # fmt: skip
    planted = found[0]
    assert planted.classes == ["not bound", "bound"]
    assert len(planted.rows) == 60
    x, label = planted.rows["x"].to_numpy(), planted.rows["label"].to_numpy()
    assert x[label == 0].max() < x[label == 1].min()
    # By hand, of the cache: axes and scales are those of the training examples.
    parts = [
        kept_features(results / "embeddings", TASK.fold(split).sequences, name="planted",
                      species=None, stranded=False, view="default")[1][:, :6].astype(float)
        for split in ("train", "test")
    ]  # fmt: skip
    assert [len(part) for part in (fitted[0], *parts)] == [180, 180, 60]
    train, test = ((part - parts[0].mean(0)) / parts[0].std(0) for part in parts)
    np.testing.assert_allclose(x, test @ whole(train)[0][:, 0], rtol=1e-4, atol=1e-4)
    again = embedding_maps.embedding_maps(results)
    assert all(one.rows.equals(other.rows) for one, other in zip(found, again, strict=True))


def test_only_kept_features_are_read(results: Path) -> None:
    sequences = [np.zeros(60, np.uint8), *TASK.fold("test").sequences]
    wanted = {"species": None, "stranded": False, "view": "default"}
    rows, features = kept_features(results / "embeddings", sequences, name="planted", **wanted)
    assert rows.tolist() == list(range(1, 61))
    np.testing.assert_array_equal(features, Planted().embed(sequences[1:], None))
    rows, features = kept_features(results / "embeddings", sequences, name="unknown", **wanted)
    assert (len(rows), len(features)) == (0, 0)


class Mapper:
    """Stands for UMAP, which takes 16 s of CPU to compile: it keeps what it is told."""

    def __init__(self, **settings: object) -> None:
        self.settings = settings

    def fit(self, values: np.ndarray) -> "Mapper":
        self.fitted = values
        return self

    def transform(self, values: np.ndarray) -> np.ndarray:
        shift = float("nan") if values.max() > 1e6 else self.settings["n_neighbors"]
        return values[:, :2] - self.fitted[:, :2].mean(axis=0) + shift


def test_umap_is_seeded_and_fitted_on_training_examples(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Mapper] = []
    package = SimpleNamespace(UMAP=lambda **settings: asked.append(Mapper(**settings)) or asked[-1])
    monkeypatch.setattr(embedding_maps, "extra", lambda *names: package)
    found = embedding_maps.embedding_maps(results, umap=True)
    assert [each.method for each in found] == ["PCA", "UMAP"] * 2
    assert {len(mapper.fitted) for mapper in asked} == {180}
    settings = asked[0].settings
    assert (settings["random_state"], settings["n_jobs"], settings["n_neighbors"]) == (20, 1, 15)
    assert len(found[1].rows) == 60
    with pytest.raises(CislensError, match="not finite; leave --umap out"):
        embedding_maps._umap(np.ones((4, 2)), np.full((3, 2), 1e9))
    assert asked[-1].settings["n_neighbors"] == 3


def test_the_plane_is_that_of_most_variance_with_fixed_signs() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(400, 5)) * [1.0, 5.0, 0.1, 3.0, 0.1]
    values -= values.mean(axis=0)
    plane, share = embedding_maps.principal_plane(values)
    assert np.abs(plane).argmax(axis=0).tolist() == [1, 3]
    assert (plane[[1, 3], [0, 1]] > 0.9).all()
    singular = np.linalg.svd(values, compute_uv=False)
    np.testing.assert_allclose(share, (singular**2 / (singular**2).sum())[:2], rtol=1e-9)


def test_every_example_is_a_dot_of_its_class() -> None:
    rows = pl.DataFrame({"x": [0.0, 1, 2], "y": [0.0, 1, 0], "label": [0.0, 1.0, 1.0]})
    drawn = embedding_map(rows, ["closed", "open"], "PCA of a on t")
    assert "closed: 1, open: 2." in drawn.alt
    assert drawn.data.equals(rows)


def test_one_far_example_does_not_hide_the_others() -> None:
    x = [*np.linspace(0, 1, 100), 1000.0]
    rows = pl.DataFrame({"x": x, "y": [*np.linspace(0, 1, 100)[::-1], 0.5], "label": [0.0] * 101})
    drawn = embedding_map(rows, ["open"], "PCA of a on t")
    assert "1 beyond the frame, at its edge" in drawn.alt
    assert drawn.data.equals(rows)
