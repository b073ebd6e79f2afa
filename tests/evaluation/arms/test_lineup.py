"""Who takes part in a task, and under what name."""

from judged import Model
from plants import motif_task

from cislens.evaluation.arms.contract import Ground
from cislens.evaluation.arms.lineup import build_arms
from cislens.recipes.schema import BenchSettings

GROUND = Ground(motif_task(100, length=40), 0.9, seed=0)
EVERY = BenchSettings(
    heads=["linear", "mlp", "cnn", "neighbors"], finetune=["lora", "full"],
    cnn=["onehot-cnn-tiny", "onehot-cnn-base"], gapped=True,
)  # fmt: skip


def test_every_head_and_every_tuning_has_an_arm_and_a_twin() -> None:
    arms = build_arms(GROUND, [Model()], EVERY)
    judged = [(arm.name, arm.kind, arm.twin_of) for arm in arms if arm.name.startswith("model")]
    assert judged == [
        ("model", "trained", None), ("model-random", "random", "model"),
        ("model+mlp", "trained", None), ("model-random+mlp", "random", "model+mlp"),
        ("model+cnn", "trained", None), ("model-random+cnn", "random", "model+cnn"),
        ("model+neighbors", "trained", None),
        ("model-random+neighbors", "random", "model+neighbors"),
        ("model+lora", "trained", None), ("model-random+lora", "random", "model+lora"),
        ("model+full", "trained", None), ("model-random+full", "random", "model+full"),
    ]  # fmt: skip


def test_baselines_come_by_themselves_and_only_where_they_can_differ() -> None:
    names = [arm.name for arm in build_arms(GROUND, [], EVERY)]
    assert "gc" in names and "onehot-linear" in names and "length" not in names
    assert names[-2:] == ["onehot-cnn-tiny", "onehot-cnn-base"]
    kinds = {arm.name: arm.kind for arm in build_arms(GROUND, [], EVERY)}
    assert sorted(set(kinds.values())) == ["composition", "onehot"]
    plain = build_arms(GROUND, [], BenchSettings(cnn=[]))
    assert len(plain) == len(names) - 3  # without the two networks and gapped k-mers


def test_a_trained_one_does_not_take_the_place_of_a_baseline_by_its_name() -> None:
    arms = build_arms(GROUND, [Model("gc")], BenchSettings(cnn=[]))
    assert [arm.kind for arm in arms if arm.name == "gc"] == ["trained", "composition"]
    stored = build_arms(GROUND, [Model("gc", "composition")], BenchSettings(cnn=[]))
    assert len([arm for arm in stored if arm.name == "gc"]) == 1
