"""Frozen features under a head: which layer is taken, by what, and for how long."""

from collections.abc import Sequence

import numpy as np
import pytest
from judged import Model, matches
from plants import motif_task

from cislens.evaluation.arms.contract import Ground
from cislens.evaluation.arms.features import Embedded
from cislens.evaluation.arms.probe import ProbeArm, TwinArm
from cislens.evaluation.heads.linear import fit_linear
from cislens.genome.codes import Codes
from cislens.representations.contract import Features

GROUND = Ground(motif_task(300, length=60), 0.9, seed=0)


class Trap(Model):
    """Its last layer knows the motif too, but only in sequences of the test split."""

    def embed_views(
        self,
        sequences: Sequence[Codes],
        species: str | None,
        stranded: bool,
        views: Sequence[str],
    ) -> dict[str, Features]:
        found = super().embed_views(sequences, species, stranded, views)
        known = {codes.tobytes() for codes in GROUND.test.sequences}
        rows = np.array([codes.tobytes() in known for codes in sequences])
        if "out.mean" in views:
            found["out.mean"][rows] = 100 * matches(sequences).max(1, keepdims=True)[rows]
        return found


def arm(model: Model, choose_view: bool = True, head: str = "linear") -> ProbeArm:
    return ProbeArm(Embedded(model, GROUND.card), GROUND, head, choose_view)  # type: ignore[arg-type]


def test_the_layer_is_chosen_by_validation_alone() -> None:
    fitted = arm(Trap()).fit(0, None)
    assert fitted.config["view"] == "L2.mean"
    tried = fitted.config["views"]
    assert isinstance(tried, dict) and list(tried) == list(Model.views)
    rows = GROUND.subset(0)
    for view, value in tried.items():
        x = [Trap().embed_views(fold.sequences, None, False, [view])[view]
             for fold in (GROUND.train, GROUND.valid)]  # fmt: skip
        head = fit_linear("binary", x[0][rows], GROUND.train_labels[rows], x[1],
                          GROUND.valid_labels, "auroc")  # fmt: skip
        assert value == pytest.approx(head.valid_metric)
    assert fitted.valid_score == tried["L2.mean"] > 0.9 > tried["out.mean"]


def test_later_seeds_keep_the_layer_and_embed_no_other() -> None:
    model = Model()
    probe = arm(model)
    first = probe.fit(0, None)
    assert model.asked == [Model.views, Model.views]  # training and validation examples
    again = probe.fit(1, first.config)
    assert len(model.asked) == 2  # nothing is embedded twice
    assert again.config["view"] == "L2.mean" and "views" not in again.config
    assert [cost.stage for cost in first.costs] == ["embed", "tune"]
    assert [cost.stage for cost in again.costs] == ["tune"]
    assert [first.costs[1].trials, again.costs[0].trials] == [3, 1]
    for fitted in (first, again):
        assert fitted.predict(GROUND.test).shape == (len(GROUND.test), 1)
    assert model.asked[2:] == [("L2.mean",)]  # the test examples, once for both seeds


def test_a_resumed_bench_obeys_the_first_configuration() -> None:
    model = Model()
    fitted = arm(model).fit(1, {"view": "L1.mean"})  # though L2 is better
    assert fitted.config["view"] == "L1.mean" and fitted.valid_score < 0.8
    assert set(model.asked) == {("L1.mean",)}


def test_without_a_choice_the_last_layer_is_taken() -> None:
    model = Model()
    fitted = arm(model, choose_view=False).fit(0, None)
    assert fitted.config["view"] == "out.mean" and "views" not in fitted.config
    assert set(model.asked) == {("out.mean",)}


def test_neighbors_choose_their_layer_too() -> None:
    probe = arm(Model(), head="neighbors")
    fitted = probe.fit(0, None)
    assert probe.name == "model+neighbors"
    assert fitted.config["head"] == "neighbors" and fitted.config["view"] == "L2.mean"
    assert fitted.valid_score > 0.9


def test_a_twin_draws_new_weights_for_each_seed() -> None:
    drawn: list[int] = []

    def probe(given: Model) -> ProbeArm:
        drawn.append(given.draw)
        return arm(given, choose_view=False)

    twin = TwinArm(Model(), "model-random", "model", probe)  # type: ignore[arg-type]
    scores = [twin.fit(seed, None).valid_score for seed in (0, 1)]
    assert drawn == [1, 2]
    assert all(value < 0.8 for value in scores) and scores[0] != scores[1]
    assert (twin.kind, twin.twin_of, twin.digest) == ("random", "model", "twin of model/0")
