import copy
import sys

import numpy as np
import pytest
import torch
from plants import binary_card, motif_task
from torch import Tensor, nn

from cislens.errors import CislensError
from cislens.evaluation.heads.finetune import (
    LEARNING_RATES,
    add_adapters,
    fit_finetuned,
    pooled,
)
from cislens.evaluation.heads.fitting import Regime
from cislens.genome.codes import N, reverse_complement
from cislens.randomness import generator
from cislens.representations.contract import Tunable

SHORT = Regime(5, 16, 1e-3, checks=1)


class Network(nn.Module):
    """Embedded bases, batch norm, a convolution, two linear layers with dropout from outside."""

    def __init__(self, dim: int = 12) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, dim)
        self.norm = nn.BatchNorm1d(dim)
        self.conv = nn.Conv1d(dim, dim, 11, padding=5)
        self.up = nn.Linear(dim, 2 * dim)
        self.dropout = nn.Dropout(0.1)
        self.down = nn.Linear(2 * dim, dim)
        self.pooler = nn.Linear(dim, dim)  # never called, as in many published encoders

    def forward(self, codes_BL: Tensor) -> tuple[Tensor, Tensor]:
        h_BDL = self.conv(self.norm(self.embed(codes_BL).transpose(1, 2)))
        h_BLD = torch.relu(h_BDL).transpose(1, 2)
        h_BLD = h_BLD + self.down(self.dropout(torch.relu(self.up(h_BLD))))
        return h_BLD, codes_BL != N


class Local:
    """A representation that can be tuned, with sequences of any length closed by N."""

    lora_targets = ("up", "down")

    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.trained = Network()

    def network(self) -> nn.Module:
        return copy.deepcopy(self.trained)

    def collate(self, sequences, species) -> Tensor:
        longest = max(map(len, sequences))
        rows = [np.pad(codes, (0, longest - len(codes)), constant_values=N) for codes in sequences]
        return torch.from_numpy(np.stack(rows)).long()


def fit(mode: str, regime: Regime = SHORT, n: int = 100, **changes: object):
    task = motif_task(n, length=40)
    tunable = Local()
    assert isinstance(tunable, Tunable)
    card = binary_card("motif", **changes)
    fitted = fit_finetuned(
        tunable, task.fold("train"), task.fold("valid"), card=card, mode=mode, regime=regime, seed=1
    )  # fmt: skip
    return fitted, tunable, task.fold("valid")


def test_lora_leaves_every_bit_of_the_network_and_trains_the_adapters_only() -> None:
    fitted, tunable, _ = fit("lora")
    before, after = tunable.trained.state_dict(), fitted.net.network.state_dict()
    kept = {name.replace(".base_layer", ""): value for name, value in after.items()}
    for name, value in before.items():  # buffers of batch norm among them
        assert (kept[name] == value).all(), name
    adapters = [value for name, value in after.items() if "lora_B" in name]
    assert len(adapters) == 2
    assert all(value.abs().max() > 0 for value in adapters)  # they start at zero
    dim = 12
    assert fitted.trained == 8 * (dim + 2 * dim) * 2 + dim + 1
    assert fitted.parameters == sum(p.numel() for p in Network().parameters()) + fitted.trained


def test_full_tuning_moves_all_that_is_used_and_not_the_representation_itself() -> None:
    fitted, tunable, _ = fit("full")
    fresh = Local().trained.state_dict()
    for name, value in tunable.trained.state_dict().items():
        assert (value == fresh[name]).all()
    after = fitted.net.network.state_dict()
    moved = {name for name, value in after.items() if not (value == fresh[name]).all()}
    idle = {"pooler.weight", "pooler.bias"}
    assert moved >= {name for name in fresh if name.startswith(("embed", "conv", "up", "down"))}
    assert "norm.running_mean" in moved
    assert not moved & idle
    assert fitted.trained == fitted.parameters


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_a_seed_decides_tuning_also_its_dropout(mode: str) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, _, valid = fit(mode)
    assert (torch.get_rng_state() == before).all()
    torch.rand(9)
    assert (fit(mode)[0].scores(valid.sequences) == first.scores(valid.sequences)).all()


def test_scores_are_those_of_both_strands_unless_the_task_is_stranded() -> None:
    for strand, same in (("unstranded", True), ("stranded", False)):
        fitted, _, valid = fit("full", strand=strand)
        other = tuple(reverse_complement(codes) for codes in valid.sequences)
        difference = np.abs(fitted.scores(valid.sequences) - fitted.scores(other)).max()
        assert (difference < 1e-5) == same


def test_full_tuning_learns_a_motif_that_the_network_does_not_know() -> None:
    regime = Regime(150, 64, 1e-2, patience=5)
    fitted, _, _ = fit("full", regime, n=1200)
    frozen, _, _ = fit("full", Regime(150, 64, 1e-9, patience=5), n=1200)
    assert fitted.valid_metric > 0.8
    assert fitted.valid_metric > frozen.valid_metric + 0.1


def test_the_pool_counts_bases_and_not_pads() -> None:
    values = torch.tensor([[[1.0], [3.0], [99.0]]])
    assert pooled(values, torch.tensor([[6, 2, 0]])).item() == pytest.approx((6 + 6) / 8)


def test_the_grid_of_rates_spans_what_fine_tuning_needs() -> None:
    assert (min(LEARNING_RATES), max(LEARNING_RATES)) == (1e-5, 5e-4)
    assert list(LEARNING_RATES) == sorted(LEARNING_RATES)


def test_names_match_whole_parts_of_a_layers_name() -> None:
    network = nn.ModuleDict({"up": nn.Linear(3, 5), "warmup": nn.Linear(3, 5)})
    assert add_adapters(network, ["up"]) == 8 * (3 + 5)
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert all(name.startswith("up.") for name in trained)


def test_targets_that_match_nothing_are_an_error_that_lists_the_layers() -> None:
    with pytest.raises(CislensError, match=r"ends in query; it has up, down, pooler"):
        add_adapters(Network(), ["query"])


def test_a_missing_peft_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(CislensError, match=r"peft; install cislens\[hf\], or use mode 'full'"):
        add_adapters(Network(), ["up"])
    fit("full")  # needs none


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(CislensError, match=r"unknown mode 'loar'.*lora"):
        fit("loar")


def test_flips_are_drawn_from_the_fits_own_generator() -> None:
    from cislens.evaluation.heads.finetune import _Collated

    task = motif_task(60, length=40)
    sequences = task.fold("train").sequences
    feed = _Collated(sequences, Local(), binary_card("motif"))
    batch = feed.batch(np.arange(30), generator(0, "flips")).numpy()
    as_given = [(row == codes).all() for row, codes in zip(batch, sequences, strict=False)]
    flipped = [
        (row == reverse_complement(codes)).all()
        for row, codes in zip(batch, sequences, strict=False)
    ]
    assert all(one != other for one, other in zip(as_given, flipped, strict=True))
    assert 5 < sum(flipped) < 25
