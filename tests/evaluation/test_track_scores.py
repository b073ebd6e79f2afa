"""Models of tracks as contestants of variant tasks."""

import numpy as np
import polars as pl
import pytest
import torch

from cislens.effects.track_model import TrackModel
from cislens.evaluation.arms.contract import Ground
from cislens.evaluation.arms.lineup import build_arms
from cislens.evaluation.arms.variant import can_score
from cislens.evaluation.metrics import metric_value
from cislens.evaluation.tasks.card import Metric, Target, TaskCard
from cislens.evaluation.tasks.task import Task, make_task
from cislens.evaluation.track_scores import (
    TrackEmbedding,
    TrackLanguageEmbedding,
    score_by_tracks,
    score_sign,
    track_scores,
)
from cislens.evaluation.zero_shot import choose_score, fitting_scores
from cislens.genome.codes import Codes, reverse_complement
from cislens.models.bases import base_head
from cislens.models.presets import preset_config
from cislens.models.profile import ProfileModel
from cislens.randomness import generator
from cislens.recipes.schema import BenchSettings
from cislens.representations.cache import cached
from cislens.representations.contract import MaskedLikelihood, TrackEffects, Twinned
from cislens.signal.datacard import DataCard
from cislens.signal.tracks import Track, track_table

WINDOW, LENGTH, CENTER = 512, 101, 50
SPLITS = {"train": 40, "valid": 30, "test": 30}


@pytest.fixture(scope="module")
def model() -> TrackModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = preset_config("space-plus-tiny", {"human": ["h1", "h2"], "mouse": ["m1"]}, crop=1)
        net = ProfileModel(config).eval()
        for each in net.parameters():
            # As it is drawn a model hardly sees a base; weights twice as large make it see them.
            if each.ndim > 1:
                each.detach().mul_(2)
    rows = [
        Track(id=each, species=species, file=f"{each}.bw")
        for species, ids in (("human", ("h1", "h2")), ("mouse", ("m1",)))
        for each in ids
    ]
    return TrackModel(net, DataCard(WINDOW, track_table(rows)), "own")


def windows(count: int = 5, length: int = LENGTH) -> tuple[Codes, Codes]:
    rng = generator(0, "windows")
    reference = rng.integers(0, 4, (count, length)).astype(np.uint8)
    alternate = reference.copy()
    middle = length // 2
    alternate[:, middle] = (alternate[:, middle] + rng.integers(1, 4, count)) % 4
    return reference, alternate


def task_of(model: TrackModel, sign: str, species: str = "human") -> Task:
    """Substitutions whose effect is what the model says of one track."""
    reference, alternate = windows(sum(SPLITS.values()))
    effect = np.zeros(len(reference))
    if species in model.net.species:
        effect = TrackEmbedding(model).track_effects(reference, alternate, species)[:, 0]
    else:
        effect += generator(0, "noise").normal(size=len(effect))
    y = effect if sign == "signed" else np.abs(effect)
    ids = [f"v{number:04d}" for number in range(len(y))]
    rows = pl.DataFrame(
        {"example_id": ids, "y": y[:, None].tolist(), "cluster_id": ids,
         "split": np.repeat(list(SPLITS), list(SPLITS.values())),
         "block_id": [f"b{number // 5:03d}" for number in range(len(y))]}
    )  # fmt: skip
    card = TaskCard(
        name="planted", kind="variant", window=LENGTH, target=Target(names=["effect"]),
        metric=Metric(primary="pearson"), split="predefined", block="five", score_sign=sign,
        species=species,
    )  # fmt: skip
    return make_task(card, rows, list(reference), list(alternate))


def test_effects_turn_with_the_alleles_and_are_those_of_either_strand(model: TrackModel) -> None:
    given = TrackEmbedding(model)
    assert isinstance(given, TrackEffects)
    reference, alternate = windows()
    effect = given.track_effects(reference, alternate, "human")
    assert effect.shape == (5, 2) and effect.dtype == np.float32
    assert np.abs(effect).min() > 1e-5
    turned = given.track_effects(alternate, reference, "human")
    assert effect == pytest.approx(-turned, abs=1e-5)
    # An odd window turns about its variant, and between equal numbers of N about its middle.
    other = [reverse_complement(each) for each in (reference, alternate)]
    padded = np.pad(np.stack(other), ((0, 0), (0, 0), (1, 0)), constant_values=4)
    shifted = np.pad(np.stack([reference, alternate]), ((0, 0), (0, 0), (0, 1)), constant_values=4)
    assert given.track_effects(*shifted, "human") == pytest.approx(
        given.track_effects(*padded, "human"), abs=1e-5
    )
    stranded = given.track_effects(reference, alternate, "human", stranded=True)
    assert np.abs(stranded - effect).max() > 1e-3


def test_windows_that_are_too_long_are_cut_to_the_middle(model: TrackModel) -> None:
    given = TrackEmbedding(model)
    reference, alternate = windows(length=WINDOW)
    more = generator(1, "flanks").integers(0, 4, (2, 5, 100)).astype(np.uint8)
    longer = [np.concatenate([more[0], each, more[1]], axis=1) for each in (reference, alternate)]
    assert given.track_effects(*longer, "human") == pytest.approx(
        given.track_effects(reference, alternate, "human"), abs=1e-5
    )


def test_scores_are_named_and_signed_by_their_source(model: TrackModel) -> None:
    given = TrackEmbedding(model)
    assert track_scores(given, "mouse") == (
        "tracks:mean", "tracks:m1", "abs_tracks:mean", "abs_tracks:m1",
    )  # fmt: skip
    assert track_scores(given, "zebrafish") == track_scores(given, None) == ()
    assert score_sign("tracks:h1") == "signed" and score_sign("abs_tracks:mean") == "unsigned"
    assert score_sign("masked:unlikely") == "directed"
    reference, alternate = windows()
    effect = given.track_effects(reference, alternate, "human")
    names = track_scores(given, "human")
    found = score_by_tracks(given, list(reference), list(alternate), "human", False, names)
    assert set(found) == set(names)
    assert (found["tracks:h2"] == effect[:, 1]).all()
    assert found["tracks:mean"] == pytest.approx(effect.mean(1), abs=1e-7)
    assert found["abs_tracks:mean"] == pytest.approx(np.abs(effect).mean(1), abs=1e-7)


@pytest.mark.parametrize("sign, score", [("signed", "tracks:h1"), ("unsigned", "abs_tracks:h1")])
def test_validation_chooses_the_track_that_carries_the_effect(
    model: TrackModel, sign: str, score: str
) -> None:
    task = task_of(model, sign)
    given = TrackEmbedding(model)
    names = fitting_scores(given, task.card, [task.fold("valid")])
    assert {score_sign(name) for name in names} <= {sign, "directed"}
    chosen = choose_score(given, task.card, task.fold("valid"), task.fold("test"))
    assert chosen.score == score and chosen.orientation == 1
    truth = np.stack(task.truth()["y"].to_list())
    assert metric_value("pearson", truth, chosen.scores(task.fold("test"))) > 0.999


def test_signed_effects_of_a_species_without_tracks_have_no_score(model: TrackModel) -> None:
    given = TrackEmbedding(model)
    other = Ground(task_of(model, "signed", "zebrafish"), 0.9, seed=0)
    assert not can_score(given, other)
    names = [arm.name for arm in build_arms(other, [given], BenchSettings(cnn=[]))]
    assert names[:2] == ["own", "own-random"]
    assert not any("zero-shot" in name for name in names)
    own = Ground(task_of(model, "signed"), 0.9, seed=0)
    names = [arm.name for arm in build_arms(own, [given], BenchSettings(cnn=[]))]
    assert names[:4] == ["own", "own-random", "own-zero-shot", "own-random-zero-shot"]


def test_the_twin_has_the_tracks_and_knows_nothing(model: TrackModel) -> None:
    given = TrackEmbedding(model)
    assert isinstance(given, Twinned)
    twin = given.twin(1)
    reference, alternate = windows(20)
    effect, other, again = (
        each.track_effects(reference, alternate, "human")[:, 0]
        for each in (given, twin, given.twin(1))
    )
    assert (other == again).all() and twin.kind == "random"
    assert abs(np.corrcoef(effect, other)[0, 1]) < 0.8
    digests = [each.digest for each in (given, twin, given.twin(2))]
    assert len(set(digests)) == 3 and twin.effect_tracks("human") == ("h1", "h2")


def test_a_model_of_both_kinds_has_both_scores_and_so_has_its_twin(
    model: TrackModel, tmp_path
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        head = base_head(model.net.encoder)
    both = TrackLanguageEmbedding(model, head.eval())
    assert both.digest != TrackEmbedding(model).digest
    kept = cached(both, tmp_path)
    for each in (both, both.twin(0), kept, kept.twin(0)):
        assert isinstance(each, MaskedLikelihood) and isinstance(each, TrackEffects)
        names = fitting_scores(each, task_of(model, "signed").card, [_valid(model)])
        assert names == ("masked:llr", "tracks:mean", "tracks:h1", "tracks:h2")


def _valid(model: TrackModel):
    return task_of(model, "signed").fold("valid")
