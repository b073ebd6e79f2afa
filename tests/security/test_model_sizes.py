"""A configuration alone takes no memory: sizes are looked at before a model is built."""

import json
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cislens.errors import CislensError
from cislens.models.limits import MOST_PARTS, bounded, require_room
from cislens.models.presets import PRESETS, encoder_config
from cislens.models.profile import ProfileModelConfig, build_model
from cislens.models.registry import build_encoder
from cislens.models.saving import load_model
from cislens.recipes.reading import read_section

ENCODERS = sorted({name.rpartition("-")[0] for name in PRESETS})
SECONDS = 15.0  # alone it takes 2


def config() -> ProfileModelConfig:

    return ProfileModelConfig.model_validate(
        {
            "encoder": encoder_config("enformer-tiny", ("yeast",)).model_dump(),
            "heads": [{"species": "yeast", "tracks": ["a"], "groups": ["dnase"]}],
        }
    )


@pytest.mark.parametrize("preset", ENCODERS)
def test_absurd_sizes_are_refused_at_once(preset: str) -> None:
    shape = encoder_config(f"{preset}-tiny", ("yeast",))
    given = shape.model_dump(mode="json")
    sizes = {"dim": 6 * 10**9, "experts": 10**9}
    if preset in ("enformer", "findna-plus"):  # as in the others, block by block, or by formula
        sizes["depth"] = 10**9
    asked = {name: value for name, value in sizes.items() if type(given.get(name)) is int}
    assert "dim" in asked
    begun = time.monotonic()
    for name, value in asked.items():
        with pytest.raises(CislensError):
            wrong = read_section({**given, name: value}, type(shape), "config.json")
            require_room("config.json", lambda wrong=wrong: build_encoder(wrong))
    assert time.monotonic() - begun < SECONDS
    require_room("config.json", lambda: build_encoder(shape))


def test_parts_without_weights_are_counted_too() -> None:
    with pytest.raises(CislensError, match=f"{MOST_PARTS:,} parts"), bounded("x"):
        nn.Sequential(*(nn.Identity() for _ in range(MOST_PARTS + 1)))
    with pytest.raises(CislensError, match=r"more than 0\.0 GB"), bounded("x", most=1000):
        nn.Linear(100, 100)
    with bounded("x", most=50_000):
        nn.Linear(100, 100)
    nn.Linear(1000, 1000)  # the count ends with the block


def test_looking_at_the_size_draws_no_random_number() -> None:
    torch.manual_seed(7)
    first = torch.rand(3)
    torch.manual_seed(7)
    require_room("x", lambda: build_model(config()))
    assert torch.equal(torch.rand(3), first)


def test_a_model_folder_is_not_larger_than_the_machine(tmp_path: Path) -> None:
    given = config().model_dump(mode="json")
    given["encoder"]["dim"] = 6 * 10**9
    about = {"format": 2, "model_type": "cislens-profile", "config": given}
    (tmp_path / "config.json").write_text(json.dumps(about))
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CislensError, match=r"config\.json describes a model"):
        load_model(tmp_path)
    with pytest.raises(CislensError, match="the model's configuration describes a model"):
        build_model(given)


def test_tensors_are_as_large_as_their_file_or_are_not_read(tmp_path: Path) -> None:
    about = {"format": 2, "model_type": "cislens-profile", "config": config().model_dump()}
    (tmp_path / "config.json").write_text(json.dumps(about, default=str))
    said = {"x": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}
    head = json.dumps(said).encode()
    for size in (len(head), 1 << 40):
        whole = size.to_bytes(8, "little") + head + bytes(16)
        (tmp_path / "model.safetensors").write_bytes(whole)
        with pytest.raises(CislensError, match="is not a whole safetensors file"):
            load_model(tmp_path)
