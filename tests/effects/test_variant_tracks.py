import numpy as np
import pytest
import torch

from cislens.effects.variant_tracks import track_effects
from cislens.errors import CislensError
from cislens.genome.codes import one_hot, reverse_complement
from cislens.models.presets import preset_config
from cislens.models.profile import build_model
from cislens.randomness import generator


def test_track_effects_are_differences_of_the_predicted_sums():
    model = build_model(
        preset_config("space-plus-tiny", {"yeast": ["a", "b"]}, crop=0, dim=24)
    ).eval()
    reference = generator(0, "windows").integers(0, 4, (6, 256)).astype(np.uint8)
    alternate = reference.copy()
    alternate[:, 128] = (alternate[:, 128] + 1) % 4
    with torch.inference_mode():
        sums = [
            model(torch.from_numpy(one_hot(codes)), "yeast").double().sum(2).numpy()
            for codes in (reference, alternate)
        ]
    effects = track_effects(model, reference, alternate, "yeast", how="difference")
    assert np.allclose(effects, sums[1] - sums[0], atol=1e-5)
    ratio = track_effects(model, reference, alternate, "yeast")
    assert np.allclose(ratio, np.log((1 + sums[1]) / (1 + sums[0])), atol=1e-6)
    swapped = track_effects(model, alternate, reference, "yeast")
    assert np.allclose(swapped, -ratio, atol=1e-7)
    both = track_effects(model, reference, alternate, "yeast", strand_pair=[1, 0])
    turned = track_effects(
        model, reverse_complement(reference), reverse_complement(alternate), "yeast",
        strand_pair=[1, 0],
    )  # fmt: skip
    assert np.allclose(turned, both[:, ::-1], atol=1e-6)
    with pytest.raises(CislensError, match="99 central bins"):
        track_effects(model, reference, alternate, "yeast", bins=99)
