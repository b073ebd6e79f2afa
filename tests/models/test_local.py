"""A substitution recomputed where it reaches, against the encoder on the changed window."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cislens.models.contract import Embedding, Encoder
from cislens.models.presets import PRESETS, encoder_config
from cislens.models.registry import build_encoder

SPECIES = ("a", "b")
LOCAL = (
    "enformer-tiny",
    "space-plus-tiny",
    "space-paper-tiny",
    "basenji-tiny",
    "basenji-tiny:fine",
    "findna-plus-tiny",
    "findna-plus-tiny:rc",
    "findna-plus-tiny:mixer",
)
CHANGES: dict[str, dict[str, Any]] = {
    "": {},
    "rc": {"rc_equivariant": True},
    "mixer": {"block": "mixer"},
    "fine": {"bin_size": 8},
}
_BUILT: dict[str, Encoder] = {}


def encoder(name: str) -> Encoder:
    """In evaluation mode, no parameter or running statistic at its first, often neutral value."""
    if name not in _BUILT:
        preset, _, change = name.partition(":")
        changes = CHANGES[change]
        rng = torch.Generator().manual_seed(3)
        made = build_encoder(encoder_config(preset, SPECIES, **changes)).eval()
        for parameter in made.parameters():
            # The weights of the bases most, so that a substitution is felt at the other end.
            size = 1.0 if 4 in parameter.shape[1:2] else 0.1
            parameter.data += size * torch.randn(parameter.shape, generator=rng)
        for buffer_name, buffer in made.named_buffers():
            if "running" in buffer_name:
                buffer += torch.rand(buffer.shape, generator=rng)
        _BUILT[name] = made
    return _BUILT[name]


def windows(lengths: int, unknown: list[tuple[int, int, int]], seed: int) -> Tensor:
    """Three random one-hot windows; `unknown` are stretches of N: row, start, width."""
    rng = torch.Generator().manual_seed(seed)
    code_BL = torch.randint(0, 4, (3, lengths), generator=rng)
    x_B4L = torch.nn.functional.one_hot(code_BL, 4).transpose(1, 2).float()
    for row, start, width in unknown:
        x_B4L[row, :, start : start + width] = 0
    return x_B4L


def substituted(x_B4L: Tensor, row_M: Tensor, position_M: Tensor, base_M: Tensor) -> Tensor:
    x_M4L = x_B4L[row_M].clone()
    mutant = torch.arange(len(row_M))
    x_M4L[mutant, :, position_M] = 0
    x_M4L[mutant, base_M, position_M] = 1
    return x_M4L


def assert_same(got: Tensor, want: Tensor) -> None:
    """To 1e-5 of the largest value."""
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5 * float(want.abs().max()))


def assert_same_embedding(got: Embedding, want: Embedding) -> None:
    assert_same(got.values_BND, want.values_BND)
    assert torch.equal(got.valid_BN, want.valid_BN)
    assert got.bin_size == want.bin_size
    for mine, theirs in (
        (got.species_BC, want.species_BC),
        (got.summary_BD, want.summary_BD),
    ):
        assert (mine is None) == (theirs is None)
        if mine is not None and theirs is not None:
            assert_same(mine, theirs)


def called(x_B4L: Tensor, row: int) -> Tensor:
    return x_B4L[row].sum(dim=0).nonzero().flatten()


@pytest.mark.parametrize("name", LOCAL)
@given(
    length=st.integers(1, 900),
    unknown=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 900), st.integers(1, 500)), max_size=3
    ),
    seed=st.integers(0, 1000),
)
@settings(max_examples=25)
def test_embedding_is_that_of_the_changed_window(
    name: str, length: int, unknown: list[tuple[int, int, int]], seed: int
) -> None:
    x_B4L = windows(length, unknown, seed)
    species_B = torch.tensor([0, 1, -1])
    rng = torch.Generator().manual_seed(seed)
    rows: list[int] = []
    positions: list[int] = []
    for row in range(3):
        found = called(x_B4L, row)
        if len(found):
            inner = found[torch.randint(0, len(found), (4,), generator=rng)]
            positions += torch.cat([found[:2], found[-2:], inner]).tolist()
            rows += [row] * (len(positions) - len(rows))
    net = encoder(name)
    local = net.local(x_B4L, species_B)
    assert local is not None
    with torch.no_grad():
        assert_same_embedding(local.reference(), net(x_B4L, species_B))
    if not rows:
        return
    row_M, position_M = torch.tensor(rows), torch.tensor(positions)
    base_M = torch.randint(0, 4, row_M.shape, generator=rng)
    got = local.embeddings(row_M, position_M, base_M)
    with torch.no_grad():
        want = net(substituted(x_B4L, row_M, position_M, base_M), species_B[row_M])
    assert_same_embedding(got, want)


@pytest.mark.parametrize("name", LOCAL)
def test_every_position_and_base_of_a_window_that_is_no_multiple_of_the_bin(name: str) -> None:
    x_B4L = windows(301, [(1, 17, 140), (2, 250, 51)], seed=0)
    row_M, position_M = x_B4L.sum(dim=1).nonzero().T
    base_M = torch.arange(len(row_M)) % 4
    net, species_B = encoder(name), torch.tensor([0, 1, -1])
    local = net.local(x_B4L, species_B)
    assert local is not None
    with torch.no_grad():
        reference = net(x_B4L, species_B).values_BND
    for first in range(0, len(row_M), 256):
        part = slice(first, first + 256)
        changed = row_M[part], position_M[part], base_M[part]
        got = local.embeddings(*changed).values_BND
        with torch.no_grad():
            want = net(substituted(x_B4L, *changed), species_B[row_M[part]]).values_BND
        scale = float(want.abs().max())
        assert float((got - want).abs().max()) < 1e-5 * scale
        # What is compared is a change: without it both would be the reference.
        assert float((want - reference[row_M[part]]).abs().max()) > 1e-3 * scale


@pytest.mark.parametrize("name", ["basenji-tiny:fine", "findna-plus-tiny", "findna-plus-tiny:rc"])
def test_blocks_that_read_far_are_local_in_a_long_window(name: str) -> None:
    x_B4L = windows(2500, [(1, 700, 333), (1, 1100, 8), (2, 2400, 100)], seed=2)
    net = encoder(name)
    local = net.local(x_B4L)
    assert local is not None
    rows, positions = x_B4L.sum(dim=1).nonzero().T
    chosen = torch.cat(
        [torch.arange(0, len(rows), 97), torch.tensor([1, 2499, 2500, len(rows) - 1])]
    )
    row_M, position_M = rows[chosen], positions[chosen]
    base_M = torch.arange(len(row_M)) % 4
    got = local.embeddings(row_M, position_M, base_M).values_BND
    with torch.no_grad():
        want = net(substituted(x_B4L, row_M, position_M, base_M)).values_BND
        reference = net(x_B4L).values_BND[row_M]
    assert_same(got, want)
    # Far from the base nothing is computed anew: not even a rounding differs.
    far_MN = (torch.arange(want.shape[1]) * net.bin_size - position_M[:, None]).abs() > 1100
    assert far_MN.any()
    own_M = x_B4L.argmax(dim=1)[row_M, position_M]
    unchanged = local.embeddings(row_M, position_M, own_M).values_BND
    assert torch.equal(got[far_MN], unchanged[far_MN])
    assert_same(want[far_MN], reference[far_MN])


def test_training_lets_every_base_reach_everything() -> None:
    net = encoder("enformer-tiny").train()
    try:
        assert net.local(windows(256, [], 0)) is None
    finally:
        net.eval()


def test_an_encoder_without_a_local_way_says_so() -> None:
    net = build_encoder(encoder_config("findna-paper-tiny", ())).eval()
    assert "findna-paper-tiny" in PRESETS
    assert net.local(windows(256, [], 0)) is None


@pytest.mark.parametrize("name", LOCAL)
def test_the_base_itself_changes_nothing(name: str) -> None:
    x_B4L = windows(384, [], seed=1)
    net = encoder(name)
    local = net.local(x_B4L)
    assert local is not None
    row_M, position_M = torch.tensor([0, 1, 2]), torch.tensor([0, 200, 383])
    got = local.embeddings(row_M, position_M, x_B4L.argmax(dim=1)[row_M, position_M])
    with torch.no_grad():
        want = net(x_B4L)
    assert_same(got.values_BND, want.values_BND)


def test_under_autocast_it_differs_by_rounding() -> None:
    x_B4L = windows(700, [(1, 100, 300)], seed=4)
    row_M, position_M, base_M = torch.tensor([[0, 1, 2, 2], [5, 99, 350, 699], [0, 1, 2, 3]])
    net = encoder("enformer-tiny")
    with torch.autocast("cpu", torch.bfloat16):
        local = net.local(x_B4L)
        assert local is not None
        got = local.embeddings(row_M, position_M, base_M).values_BND.float()
    with torch.no_grad():
        want = net(substituted(x_B4L, row_M, position_M, base_M)).values_BND
    # bf16 has 8 bits.
    assert float((got - want).norm() / want.norm()) < 0.03
