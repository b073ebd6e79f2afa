"""The published SPACE weights themselves, where they are on the disk."""

import os
from pathlib import Path

import pytest
import torch
from checkpoints import sequence

from cislens.models.published.files import read_checkpoint
from cislens.models.published.importing import import_space

VARIABLE = "CISLENS_SPACE_WEIGHTS"
SHA256 = "f22ce262adc3347a8182bcd3bb5cd630ded4f1586b6c2a9841de6d14ea61cc81"


@pytest.fixture(scope="module")
def weights() -> Path:
    named = os.environ.get(VARIABLE)
    if not named:
        pytest.skip(f"{VARIABLE} does not name the published pytorch_model.bin")
    return Path(named)


@pytest.mark.slow
def test_public_weights_load_and_embed(weights: Path) -> None:
    checkpoint = read_checkpoint(weights)
    assert checkpoint.sha256 == SHA256
    assert len(checkpoint.tensors) == 363
    model = import_space(checkpoint)
    assert sum(value.numel() for value in model.parameters()) == 588_750_036
    runs = []
    for _ in range(2):
        with torch.inference_mode():
            values = model.encoder(sequence(), torch.tensor([0])).values_BND
        runs.append(values[:, model.config.crop : -model.config.crop])
    assert runs[0].shape == (1, 896, 3072)
    assert runs[0].isfinite().all()
    assert torch.equal(*runs)
