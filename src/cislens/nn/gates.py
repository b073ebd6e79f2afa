"""Gated experts of the published SPACE model (Yang, Zhu and Su 2025, arXiv 2506.01833).

Dimensions: B window, M token of a window, T token of a batch, D channel, H hidden channel,
E expert, K kept expert, R routed row (T x K, sorted by expert), S species.
Logits, softmax and combination are fp32 under autocast. Experts are chosen by index and never
by testing a gate for nonzero: a kept gate may underflow to 0.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cislens.nn.experts import choose_product
from cislens.nn.precision import autocast_dtype, full_precision
from cislens.nn.routing import Routing

LEAK = 0.01


class ExpertPool(nn.Module):
    """Two-layer experts, `Drop(Drop(ReLU(z W1_k + b1_k)) W2_k + b2_k)`, matrices (E, in, out).

    Weights start uniform within 1 / sqrt(inputs) of a layer; the published code reads the
    number of inputs from the wrong axis.
    """

    def __init__(
        self, dim: int, hidden: int, experts: int, dropout: float, output_dropout: float
    ) -> None:
        super().__init__()
        self.w_in = nn.Parameter(_uniform(dim, experts, dim, hidden))
        self.b_in = nn.Parameter(_uniform(dim, experts, hidden))
        self.w_out = nn.Parameter(_uniform(hidden, experts, hidden, dim))
        self.b_out = nn.Parameter(_uniform(hidden, experts, dim))
        self.dropout = nn.Dropout(dropout)
        self.output_dropout = nn.Dropout(output_dropout)

    def forward(self, z_TD: Tensor, kept_TK: Tensor, weight_TK: Tensor) -> Tensor:
        """`sum_k weight_k expert_k(z)` over the kept experts of every token, (T, D)."""
        tokens, kept = kept_TK.shape
        if (dtype := autocast_dtype(z_TD.device)) is not None:
            z_TD = z_TD.to(dtype)
        expert_R, order_R = kept_TK.flatten().sort(stable=True)
        index_E = torch.arange(self.w_in.shape[0], device=z_TD.device)
        ends_E = torch.searchsorted(expert_R, index_E, right=True).to(torch.int32)
        w_in, b_in, w_out, b_out = (
            weight.to(z_TD.dtype) for weight in (self.w_in, self.b_in, self.w_out, self.b_out)
        )
        # A product with a one-hot matrix adds each row's bias in the same pass, and its gradient
        # is a product too rather than a scatter of all rows onto few experts.
        expert_RE = (expert_R[:, None] == index_E).to(z_TD.dtype)
        rows_RD = z_TD.index_select(0, order_R // kept)
        product = choose_product(rows_RD, w_in)
        hidden_RH = product(rows_RD, w_in, ends_E).addmm_(expert_RE, b_in).relu_()
        hidden_RH = self.dropout(hidden_RH)
        out_RD = product(hidden_RH, w_out, ends_E).addmm_(expert_RE, b_out)
        out_RD = self.output_dropout(out_RD)
        row_R = torch.arange(tokens * kept, device=z_TD.device)
        inverse_R = torch.empty_like(order_R).scatter(0, order_R, row_R)
        y_TKD = out_RD.index_select(0, inverse_R).view(tokens, kept, -1)
        combined: Tensor = (y_TKD.to(weight_TK.dtype) * weight_TK[..., None]).sum(dim=1)
        return combined


def _uniform(inputs: int, *shape: int) -> Tensor:
    bound = inputs**-0.5
    return torch.empty(*shape).uniform_(-bound, bound)


class SpeciesExperts(nn.Module):
    """A feed-forward layer of experts, D -> 2D -> D, with one gate per species.

    `l = LeakyReLU(W_s x + b_s)` reads the residual stream x before its norm; the weights of the
    kept experts are the softmax over their logits alone. Every token is kept. A window of
    unknown species is routed by the mean of all species' logits.
    """

    def __init__(self, dim: int, species: int, experts: int, kept: int, dropout: float) -> None:
        super().__init__()
        self.kept = kept
        self.gates = nn.ModuleList(nn.Linear(dim, experts) for _ in range(species))
        self.pool = ExpertPool(dim, 2 * dim, experts, dropout, dropout)

    def forward(
        self, x_BMD: Tensor, z_BMD: Tensor, species_B: Tensor, valid_BM: Tensor
    ) -> tuple[Tensor, Routing]:
        """The layer's update, and where the tokens were sent.

        Args:
            x_BMD: residual stream, for the gates.
            z_BMD: the same after the layer's norm, for the experts.
            species_B: species index, -1 where unknown.
            valid_BM: False for padding; it is computed but not counted.
        """
        tokens = x_BMD.shape[1]
        logits_TE = self._logits(x_BMD, species_B).flatten(0, 1)
        kept_TK, weight_TK = keep_top(logits_TE, self.kept)
        update_TD: Tensor = self.pool(z_BMD.flatten(0, 1), kept_TK, weight_TK)
        routing = Routing(
            logits_TE=logits_TE,
            gates_TE=torch.zeros_like(logits_TE).scatter(1, kept_TK, weight_TK),
            kept_TK=kept_TK,
            weight_T=valid_BM.flatten().to(logits_TE.dtype),
            species_T=species_B[:, None].expand(-1, tokens).flatten(),
        )
        return update_TD.view_as(x_BMD).to(z_BMD.dtype), routing

    def add_species(self) -> None:
        """Append a gate, the mean of the others, which are not touched."""
        first = self.gates[0]
        assert isinstance(first, nn.Linear)
        gate = nn.Linear(first.in_features, first.out_features, device=first.weight.device)
        with torch.no_grad():
            for name, weight in gate.named_parameters():
                others = torch.stack([own.get_parameter(name).detach() for own in self.gates])
                weight.copy_(others.mean(dim=0))
        self.gates.append(gate)

    def _logits(self, x_BMD: Tensor, species_B: Tensor) -> Tensor:
        # One product per species and not one for all: a gate that is added must not change
        # the others' bits.
        by_species = [leaky_logits(gate, x_BMD) for gate in self.gates]
        logits_BME = torch.stack(by_species).mean(dim=0)
        for species, own_BME in enumerate(by_species):
            logits_BME = torch.where((species_B == species)[:, None, None], own_BME, logits_BME)
        return logits_BME


def leaky_logits(gate: nn.Module, x: Tensor) -> Tensor:
    """`LeakyReLU(W x + b)` of a linear gate, in fp32 at least."""
    return F.leaky_relu(gate_logits(gate, x), LEAK)


def gate_logits(gate: nn.Module, x: Tensor) -> Tensor:
    """`W x + b` of a linear gate, in fp32 at least, whatever autocast says."""
    assert isinstance(gate, nn.Linear)
    dtype = torch.promote_types(gate.weight.dtype, torch.float32)
    weight, bias = gate.weight.to(dtype), gate.bias.to(dtype)
    with full_precision(x.device):
        return F.linear(x.to(dtype), weight, bias)


def keep_top(logits_TE: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """Indices of the experts with the largest logits, (T, K), and the softmax over these."""
    logits_TK, kept_TK = logits_TE.topk(kept, dim=-1)
    return kept_TK, logits_TK.softmax(dim=-1)
