"""Who takes part in a task: what is to be judged, its controls, and the baselines."""

from collections.abc import Sequence

from cislens.evaluation.arms.contract import Arm, Ground
from cislens.evaluation.arms.probe import ProbeArm, TwinArm
from cislens.evaluation.arms.scratch import ScratchArm
from cislens.evaluation.heads.fitting import Regime
from cislens.evaluation.heads.onehot_cnn import find_shape
from cislens.recipes.schema import BenchSettings
from cislens.representations.baselines import GCContent, KmerCounts, Length, OneHot
from cislens.representations.contract import Representation, Twinned


def build_arms(
    ground: Ground, representations: Sequence[Representation], settings: BenchSettings
) -> list[Arm]:
    """The arms of a task; baselines that cannot differ between its examples are left out."""
    given = {representation.name for representation in representations}
    baselines = [one for one in _baselines(ground, settings) if one.name not in given]
    arms: list[Arm] = []
    for representation in [*representations, *baselines]:
        arms.append(ProbeArm(representation, ground, settings.layers))
        if representation.kind == "trained" and isinstance(representation, Twinned):
            arms.append(TwinArm(representation, ground, settings.layers))
    if ground.card.kind != "variant":
        regimes = [Regime(settings.cnn_steps, settings.cnn_batch, rate) for rate in (1e-2, 3e-3)][
            : settings.trials
        ]
        arms += [ScratchArm(find_shape(name), ground, regimes) for name in settings.cnn]
    return arms


def _baselines(ground: Ground, settings: BenchSettings) -> list[Representation]:
    one_length = ground.task.examples["length"].n_unique() == 1
    return [KmerCounts(settings.kmer), GCContent(), OneHot() if one_length else Length()]
