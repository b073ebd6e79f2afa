from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cislens.models.presets import HeadTracks, preset_config
from cislens.models.profile import build_model
from cislens.training.module import TermMeans, parameter_groups, warmup_cosine


def test_schedule_rises_to_one_and_falls_to_zero() -> None:
    factors = [warmup_cosine(step, 100, 0.1) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == 1.0
    assert factors[100] == pytest.approx(0.0, abs=1e-12)
    assert factors[55] == pytest.approx(0.5)
    assert factors[10:] == sorted(factors[10:], reverse=True)


def test_only_matrices_decay_and_every_parameter_is_trained_once() -> None:
    model = nn.Sequential(nn.Conv1d(4, 8, 5), nn.BatchNorm1d(8), nn.Linear(8, 3))
    model[2].bias.requires_grad_(False)
    decayed, kept = parameter_groups(model, 0.1)
    assert decayed["weight_decay"] == 0.1
    assert kept["weight_decay"] == 0.0
    assert [tuple(p.shape) for p in decayed["params"]] == [(8, 4, 5), (3, 8)]
    trained = [id(p) for group in (decayed, kept) for p in group["params"]]
    assert sorted(trained) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert torch.is_tensor(kept["params"][0])


def test_biases_and_tokens_do_not_decay_whatever_their_shape() -> None:
    tracks = {"fly": HeadTracks(("a",), ("TF",)), "yeast": HeadTracks(("b",), ("CAGE",))}
    model = build_model(preset_config("space-paper-tiny", tracks, bins=4, dim=24, stem_dim=8))
    names = {id(p): name for name, p in model.named_parameters()}
    decayed, kept = (
        [names[id(p)] for p in group["params"]] for group in parameter_groups(model, 1)
    )
    for part in (
        "content_bias",
        "position_bias",
        "b_in",
        "b_out",
        "species_tokens",
        "group_tokens",
    ):
        assert any(part in name for name in kept), part
        assert not any(part in name for name in decayed), part
    assert "decoder.pool.w_in" in decayed
    assert "heads.0.weight" in decayed


def test_terms_are_means_over_the_windows_that_have_them() -> None:
    """A species that is in every other batch counts in those alone."""
    means = TermMeans()
    for species, windows, value in (("fly", 2, 1.0), ("yeast", 2, 9.0), ("fly", 4, 4.0)):
        batch = SimpleNamespace(windows=lambda part, count=windows: count)
        means.add({f"poisson/{species}": torch.tensor(value), "z": torch.tensor(value)}, batch)
    assert means.compute() == {"poisson/fly": 3.0, "poisson/yeast": 9.0, "z": 4.5}
