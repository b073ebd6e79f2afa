"""Who takes part in a task: what is to be judged, its controls, and the baselines."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Literal

from cislens.evaluation.arms.contract import Arm, Ground
from cislens.evaluation.arms.features import Embedded, Source
from cislens.evaluation.arms.network import (
    NetworkArm,
    bins_arm,
    mlp_arm,
    scratch_arm,
    tuned_arm,
)
from cislens.evaluation.arms.probe import ProbeArm, TwinArm
from cislens.evaluation.arms.variant import ZeroShotArm, can_score
from cislens.evaluation.conservation import ConservationBaseline
from cislens.evaluation.heads.onehot_cnn import find_shape
from cislens.evaluation.heads.tuning import same_budget
from cislens.evaluation.variant_baselines import VariantBaseline, available_baselines
from cislens.motifs.library import MotifLibrary, read_library
from cislens.recipes.schema import BenchSettings
from cislens.representations.baselines import Dinucleotides, GCContent, KmerCounts, Length, OneHot
from cislens.representations.contract import Binned, Representation, Tunable, Twinned
from cislens.representations.gapped import GappedKmers
from cislens.representations.motifs import MotifOccupancy

_BUCKETS = 2**13  # more, up to 2^16, tell words apart better and take 2.6 GB per 10,000 examples
ArmOf = Callable[[Representation], Arm]


def build_arms(
    ground: Ground, representations: Sequence[Representation], settings: BenchSettings
) -> list[Arm]:
    """The arms of a task; baselines that cannot differ between its examples are left out."""
    # A baseline that was embedded beforehand takes the place of its own arm.
    given = {each.name for each in representations if each.kind != "trained"}
    arms: list[Arm] = []
    for representation in representations:
        for arm_of in _ways(representation, ground, settings):
            arm = arm_of(representation)
            arms.append(arm)
            if representation.kind == "trained" and isinstance(representation, Twinned):
                twin = arm.name.replace(representation.name, f"{representation.name}-random", 1)
                arms.append(TwinArm(representation, twin, arm.name, arm_of))
    if ground.card.kind == "variant":
        return arms + [ProbeArm(each, ground) for each in _of_variants(ground, settings)]
    arms += [
        ProbeArm(Embedded(baseline, ground.card), ground)
        for baseline in _baselines(ground, settings)
        if baseline.name not in given
    ]
    arms += [scratch_arm(find_shape(name), ground, settings) for name in settings.cnn]
    networks = [arm for arm in arms if isinstance(arm, NetworkArm)]
    same_budget({arm.name: arm.budget for arm in networks if arm.budget is not None})
    return arms


def _of_variants(ground: Ground, settings: BenchSettings) -> list[Source]:
    """Baselines that know the change and its place, and conservation where a file is given."""
    names = available_baselines(ground.task)
    baselines: list[Source] = [VariantBaseline(ground.task, name) for name in names]
    given = settings.conservation.get(ground.card.assembly)
    if given is not None:
        baselines.append(ConservationBaseline(ground.task, given))
    return baselines


def _ways(representation: Representation, ground: Ground, settings: BenchSettings) -> list[ArmOf]:
    """How a representation is judged on a task: under every head, trained further, and by its own
    scores."""

    def embedded(given: Representation) -> Embedded:
        return Embedded(given, ground.card)

    ways: dict[str, ArmOf] = {
        "linear": lambda given: ProbeArm(embedded(given), ground, "linear", settings.layers),
        "neighbors": lambda given: ProbeArm(embedded(given), ground, "neighbors", settings.layers),
        "mlp": lambda given: mlp_arm(embedded(given), ground, settings),
    }
    if isinstance(representation, Binned) and _whole(ground):
        ways["cnn"] = lambda given: bins_arm(given, ground, settings)
    chosen = [ways[head] for head in settings.heads if head in ways]
    if isinstance(representation, Tunable) and ground.card.kind != "variant":
        chosen += [partial(_tuned, mode=mode, ground=ground, settings=settings)
                   for mode in settings.finetune]  # fmt: skip
    if ground.card.kind == "variant" and can_score(representation, ground):
        chosen.append(lambda given: ZeroShotArm(given, ground))
    return chosen


def _tuned(
    given: Representation, mode: Literal["lora", "full"], ground: Ground, settings: BenchSettings
) -> Arm:
    return tuned_arm(given, mode, ground, settings)


def _whole(ground: Ground) -> bool:
    """Whether bins of different examples can be held against each other."""
    return ground.card.kind != "variant" and ground.task.examples["length"].n_unique() == 1


@cache
def _library(spec: str) -> MotifLibrary:
    return read_library(spec)


def _baselines(ground: Ground, settings: BenchSettings) -> list[Representation]:
    one_length = ground.task.examples["length"].n_unique() == 1
    baselines: list[Representation] = [KmerCounts(settings.kmer), Dinucleotides()]
    if settings.gapped:
        baselines.append(GappedKmers(buckets=_BUCKETS))
    if settings.motifs is not None:
        baselines.append(MotifOccupancy(_library(settings.motifs)))
    if ground.card.kind != "attribution":  # GC and length are the same wherever a base changes
        baselines += [GCContent()] + ([] if one_length else [Length()])
    return baselines + ([OneHot()] if one_length else [])
