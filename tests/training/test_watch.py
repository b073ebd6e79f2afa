import math

import polars as pl
import pytest
import torch
from torch import Tensor

from cislens.models.presets import HeadTracks, preset_config
from cislens.models.profile import ProfileModel, build_model
from cislens.nn.routing import Routing
from cislens.objectives.profile import ProfileObjective, TorchProfileBatch
from cislens.training.experts import DECODER, EVERY, Use, expert_use, information
from cislens.training.watch import MEMORY, ExpertWatch

TRACKS = {
    "yeast": HeadTracks(["a", "b", "c"], ["accessibility", "accessibility", "TF"]),
    "fly": HeadTracks(["d"], ["TF"]),
}


def model_of(**changes: object) -> ProfileModel:
    torch.manual_seed(3)
    tiny = {"dim": 24, "stem_dim": 8, "depth": 2, "heads": 2, **changes}
    return build_model(preset_config("space-plus-tiny", TRACKS, **tiny))


def batch_of(windows: int = 4) -> TorchProfileBatch:
    torch.manual_seed(4)
    half = windows // 2
    species_B = torch.tensor([0] * half + [1] * half)
    targets = {"yeast": torch.rand(half, 4, 3), "fly": torch.rand(half, 4, 1)}
    return TorchProfileBatch(
        torch.randint(4, (windows, 512), dtype=torch.uint8), species_B, targets
    )


def routing_of(expert_T: list[int], label_T: list[int], experts: int = 4) -> Routing:
    """Tokens that go to one expert each, with a certain router."""
    kept_T1 = torch.tensor(expert_T)[:, None]
    gates_TE = torch.zeros(len(expert_T), experts).scatter(1, kept_T1, 1.0)
    labels = torch.tensor(label_T)
    return Routing(100 * gates_TE, gates_TE, kept_T1, torch.ones(len(labels)), labels, labels)


def watched(objective: ProfileObjective) -> ExpertWatch:
    watch = ExpertWatch(objective)
    watch.on_fit_start(None, None)  # type: ignore[arg-type]
    return watch


def test_numbers_of_a_layer_that_parts_the_species() -> None:
    values = Use.of(routing_of([0, 0, 1, 1], [0, 0, 1, 1]), 2, 2).metrics()
    assert values["max_load"] == 0.5
    assert values["entropy"] == pytest.approx(0, abs=1e-6)
    assert values["species_information"] == pytest.approx(math.log(2), abs=1e-6)
    assert values["group_information"] == pytest.approx(math.log(2), abs=1e-6)
    assert values["max_logit"] == 100.0


def test_numbers_of_batches_add_up() -> None:
    first, second = routing_of([0, 1], [0, 1]), routing_of([0, 2, 1, 1], [0, 1, 0, 1])
    both = Use.of(first, 2, 2).plus(Use.of(second, 2, 2)).metrics()
    whole = Use.of(Routing.join([first, second]), 2, 2).metrics()
    assert both == pytest.approx(whole)
    assert information(torch.ones(2, 4)) == pytest.approx(0.0, abs=1e-7)


def test_padding_counts_neither_in_loads_nor_in_the_largest_logit() -> None:
    routing = routing_of([0, 1, 3], [0, 1, 1])
    routing.weight_T[2] = 0.0
    routing.logits_TE[2] = 1e6
    values = Use.of(routing, 2, 2).metrics()
    assert values["max_logit"] == 100.0
    assert values["species_information"] == pytest.approx(math.log(2), abs=1e-6)


def test_validation_reports_every_layer_of_encoder_and_decoder() -> None:
    objective = ProfileObjective(model_of())
    watch = watched(objective)
    objective.loss(batch_of())
    objective.eval()
    watch.on_validation_epoch_start(None, None)  # type: ignore[arg-type]
    objective.loss(batch_of())
    found = watch.metrics()
    layers = {name.split("/")[1] for name in found}
    assert layers == {"L1", "L2", DECODER}
    assert all(math.isfinite(value) for value in found.values())
    per_layer = {"max_load", "entropy", "species_information", "max_logit", "dead_share"}
    assert {name.split("/")[2] for name in found if "/L1/" in name} == per_layer
    assert "experts/decoder/group_information" in found
    assert all(0 <= found[f"experts/{layer}/entropy"] <= 1 + 1e-6 for layer in layers)


def test_a_dense_model_reports_nothing() -> None:
    objective = ProfileObjective(model_of(ffn="dense", decoder=False))
    watch = watched(objective)
    objective.loss(batch_of())
    objective.eval()
    objective.loss(batch_of())
    assert watch.metrics() == {}
    assert expert_use(objective.model, [batch_of()]).is_empty()


def dead_share(loads: list[Tensor]) -> float:
    watch = ExpertWatch(ProfileObjective(model_of()))
    steps = torch.stack(loads)
    kept = torch.zeros(MEMORY, 4)
    for step, load_E in enumerate(steps):
        kept[step % MEMORY] = load_E
    watch.load_state_dict({"L1": {"load_WE": kept, "steps": len(steps)}})
    return watch.metrics()["experts/L1/dead_share"]


def test_an_expert_is_dead_below_a_tenth_of_an_even_load_over_a_thousand_steps() -> None:
    even, without_last = torch.full((4,), 0.25), torch.tensor([0.5, 0.25, 0.25, 0.0])
    assert dead_share([even]) == 0
    assert dead_share([without_last]) == 0.25
    # 0.1 / 4 of the slots: 100 of 1000 even steps are just enough.
    assert dead_share([without_last] * 901 + [even] * 99) == 0.25
    assert dead_share([without_last] * 899 + [even] * 101) == 0
    # What was more than a thousand steps ago is forgotten.
    assert dead_share([even] * 500 + [without_last] * 1000) == 0.25


def test_what_was_seen_travels_in_a_checkpoint() -> None:
    objective = ProfileObjective(model_of())
    watch = watched(objective)
    for _ in range(3):
        objective.loss(batch_of())
    again = ExpertWatch(objective)
    again.load_state_dict(watch.state_dict())
    assert again.metrics() == watch.metrics()
    assert again.loads["L1"].steps == 3


def test_the_table_has_species_and_groups_of_every_layer() -> None:
    table = expert_use(model_of(), [batch_of(), batch_of()])
    rows = {tuple(row) for row in table.select("layer", "species", "group").unique().rows()}
    of_layer = {(EVERY, EVERY), ("yeast", EVERY), ("fly", EVERY)}
    of_groups = {(EVERY, "accessibility"), (EVERY, "TF")}
    expected = {(layer, *pair) for layer in ("L1", "L2", DECODER) for pair in of_layer}
    assert rows == expected | {(DECODER, *pair) for pair in of_groups}
    sums = table.group_by("layer", "species", "group").agg(pl.col("share").sum())["share"]
    assert sums.to_numpy() == pytest.approx(1.0, abs=1e-6)
    assert table.filter(pl.col("information").is_null())["species"].unique().to_list() == [EVERY]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_watching_reads_nothing_back_from_a_gpu() -> None:
    objective = ProfileObjective(model_of(dim=32, key_dim=16).cuda()).cuda()
    watch = watched(objective)
    batch = batch_of().to("cuda")

    def both() -> None:
        objective.train()
        with torch.autocast("cuda", torch.bfloat16):
            objective.loss(batch).total.backward()
        with torch.inference_mode():
            objective.eval().loss(batch)

    both()  # allocates the memory
    torch.cuda.set_sync_debug_mode("error")
    try:
        both()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert watch.metrics()["experts/L1/max_load"] > 0
