"""What a prediction costs, held against sums by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
from plants import binary_card, motif_task

from cislens.errors import CislensError
from cislens.evaluation.arms.contract import Ground
from cislens.evaluation.arms.features import Embedded
from cislens.evaluation.arms.network import scratch_arm
from cislens.evaluation.arms.probe import ProbeArm
from cislens.evaluation.cost import flops_per_bp
from cislens.evaluation.heads.onehot_cnn import PooledShape
from cislens.evaluation.tasks.task import Fold, Task
from cislens.recipes.schema import BenchSettings
from cislens.representations.baselines import KmerCounts

LENGTH = 60
SETTINGS = BenchSettings(cnn_steps=2, cnn_batch=16, trials=1)
SHAPE = PooledShape("two", ((6, 11), (10, 5)), 8)


def ground(**changes: object) -> Ground:
    task = motif_task(100, length=LENGTH)
    return Ground(Task(binary_card("motif", **changes), task.examples), 0.9, seed=0)


@pytest.mark.parametrize("strand, passes", [("stranded", 1), ("unstranded", 2)])
def test_a_onehot_cnn_costs_what_its_layers_do(strand: str, passes: int) -> None:
    given = ground(strand=strand)
    fitted = scratch_arm(SHAPE, given, SETTINGS).fit(0, None)
    pooled = math.ceil(LENGTH / 4)  # positions after the max pool
    convolutions = LENGTH * 4 * 11 * 6 + pooled * 6 * 5 * 10
    linear = 2 * 10 * 8 + 8 * 1  # global max and mean pool, then two layers
    by_hand = passes * 2 * (convolutions + linear) / LENGTH
    assert flops_per_bp(fitted.predict, given.test) == pytest.approx(by_hand, rel=1e-12)


def test_counts_and_formulas_cost_nothing() -> None:
    given = ground()
    arm = ProbeArm(Embedded(KmerCounts(3), given.card), given)
    assert flops_per_bp(arm.fit(0, None).predict, given.test) == 0


def test_features_that_are_read_from_a_store_cost_nothing() -> None:
    def read(fold: Fold) -> np.ndarray:
        raise CislensError("1 of 2 sequences are not in the embeddings")

    assert flops_per_bp(read, ground().test) == 0


def test_both_alleles_of_a_variant_are_bases() -> None:
    given = ground(strand="stranded")
    fitted = scratch_arm(SHAPE, given, SETTINGS).fit(0, None)
    pairs = replace(given.test, alternates=given.test.sequences)

    def difference(fold: Fold) -> np.ndarray:
        assert fold.alternates is not None
        other = replace(fold, sequences=fold.alternates)
        return fitted.predict(other) - fitted.predict(fold)

    assert flops_per_bp(difference, pairs) == pytest.approx(
        flops_per_bp(fitted.predict, given.test)
    )
