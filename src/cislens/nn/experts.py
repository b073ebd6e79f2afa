"""A mixture of feed-forward experts: one shared expert and the top k of n routed ones.

Dimensions: T token (windows x bins), D channel, H hidden channel, E expert, K kept expert,
S species. Router, softmax and combination are fp32 under autocast. Nothing here reads a value
back from the device: experts are chosen by sorting, never by testing for nonzero.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Routing:
    """Where one expert layer sent its tokens; everything stays on the device and in the graph.

    Attributes:
        logits_TE, gates_TE: router logits, and the weights of the kept experts (0 elsewhere;
            each row sums to 1).
        kept_TK: indices of the kept experts.
        weight_T: 1 for tokens of valid bins, 0 for padding.
        species_T: species index, -1 where unknown.
    """

    logits_TE: Tensor
    gates_TE: Tensor
    kept_TK: Tensor
    weight_T: Tensor
    species_T: Tensor

    @property
    def load(self) -> Tensor:
        """Share of the routed slots that each expert received, (E,); sums to 1."""
        slots_TE = torch.zeros_like(self.gates_TE).scatter(1, self.kept_TK, 1.0)
        counts_E = self.weight_T @ slots_TE
        return (counts_E / counts_E.sum().clamp_min(1.0)).detach()

    def species_mass(self, species: int) -> Tensor:
        """Sum of the gates of each known species' valid tokens, (S, E)."""
        index_S = torch.arange(species, device=self.species_T.device)
        known_TS = (self.species_T[:, None] == index_S).to(self.gates_TE.dtype)
        return (known_TS * self.weight_T[:, None]).T @ self.gates_TE

    def entropy(self) -> Tensor:
        """Mean entropy of the router's distribution over ln n: 1 undecided, 0 certain."""
        log_p_TE = self.logits_TE.log_softmax(dim=-1)
        entropy_T = -(log_p_TE.exp() * log_p_TE).sum(dim=-1)
        mean = (entropy_T * self.weight_T).sum() / self.weight_T.sum().clamp_min(1.0)
        return (mean / math.log(self.logits_TE.shape[1])).detach()


def balance_loss(routing: Routing, load_E: Tensor | None = None) -> Tensor:
    """`n * sum_e f_e P_e` (Switch Transformer): 1 when balanced, n/k when collapsed on k experts.

    f is the share of routed slots (`load_E`, averaged over devices, if given) and carries no
    gradient; P is the mean router probability.
    """
    p_TE = routing.logits_TE.softmax(dim=-1)
    weight_T = routing.weight_T
    mean_E = (weight_T @ p_TE) / weight_T.sum().clamp_min(1.0)
    load_E = routing.load if load_E is None else load_E
    return p_TE.shape[1] * (load_E * mean_E).sum()


def z_loss(routing: Routing) -> Tensor:
    """Mean squared log-sum-exp of the router logits: keeps them small."""
    z_T = routing.logits_TE.logsumexp(dim=-1).square()
    return (z_T * routing.weight_T).sum() / routing.weight_T.sum().clamp_min(1.0)


def joint_of_mass(mass_SE: Tensor) -> Tensor:
    """Joint distribution of species and expert in which every present species has equal mass.

    Does not depend on how many windows, bins or masked tokens a species had; absent species
    get probability 0.
    """
    row_S1 = mass_SE.sum(dim=1, keepdim=True)
    present_S1 = (row_S1 > 0).to(mass_SE.dtype)
    share_SE = mass_SE / torch.where(row_S1 > 0, row_S1, torch.ones_like(row_S1))
    return share_SE / present_S1.sum().clamp_min(1.0)


def mutual_information(joint_SE: Tensor) -> Tensor:
    """Mutual information in nats of a joint distribution; 0 where only one species is present."""
    independent_SE = joint_SE.sum(dim=1, keepdim=True) * joint_SE.sum(dim=0, keepdim=True)
    tiny = torch.finfo(joint_SE.dtype).tiny
    ratio_SE = joint_SE.clamp_min(tiny).log() - independent_SE.clamp_min(tiny).log()
    return (joint_SE * ratio_SE).sum()


class Experts(nn.Module):
    """`shared(z) + sum_k g_k expert_k(z)`; as many multiplications as a dense D -> 2D -> D.

    The shared expert has hidden width D, each of the k = 2 active routed ones D / 2.
    """

    def __init__(self, dim: int, experts: int, kept: int, code_dim: int, dropout: float) -> None:
        super().__init__()
        self.kept = kept
        hidden = dim // 2
        self.shared = nn.Sequential(
            nn.Linear(dim, dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(dim, dim)
        )
        self.router = nn.Linear(dim, experts, bias=False)
        self.species_router = nn.Linear(code_dim, experts, bias=False)
        nn.init.normal_(self.species_router.weight, std=0.02)
        self.w_in = nn.Parameter(_uniform(experts, dim, hidden))
        self.w_out = nn.Parameter(_uniform(experts, hidden, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, z_BND: Tensor, code_BC: Tensor, species_B: Tensor, valid_BN: Tensor
    ) -> tuple[Tensor, Routing]:
        """The layer's update of normalized tokens z, and where they were sent.

        Args:
            code_BC: species code of each window (zeros where the species is unknown).
            species_B: species index, -1 where unknown; for the statistics only.
            valid_BN: False for padded bins; they are computed but not counted.
        """
        batch, bins, dim = z_BND.shape
        routing = self.route(z_BND, code_BC, species_B, valid_BN)
        z_TD = z_BND.reshape(-1, dim)
        weight_TK = routing.gates_TE.gather(1, routing.kept_TK)
        y_TKD = self._apply_experts(z_TD, routing.kept_TK)
        routed_TD = (y_TKD.float() * weight_TK[..., None]).sum(dim=1)
        shared_BND: Tensor = self.shared(z_BND)
        update = shared_BND + routed_TD.view(batch, bins, dim).to(shared_BND.dtype)
        return self.dropout(update), routing

    def route(self, z_BND: Tensor, code_BC: Tensor, species_B: Tensor, valid_BN: Tensor) -> Routing:
        """Router distribution and kept experts, in fp32."""
        bins = z_BND.shape[1]
        with torch.autocast(z_BND.device.type, enabled=False):
            by_token = F.linear(z_BND.float(), self.router.weight.float())
            by_species = F.linear(code_BC.float(), self.species_router.weight.float())
            logits_TE = (by_token + by_species[:, None, :]).flatten(0, 1)
            p_TE = logits_TE.softmax(dim=-1)
            p_TK, kept_TK = p_TE.topk(self.kept, dim=-1)
            weight_TK = p_TK / p_TK.sum(dim=-1, keepdim=True)
            gates_TE = torch.zeros_like(p_TE).scatter(1, kept_TK, weight_TK)
        return Routing(
            logits_TE=logits_TE,
            gates_TE=gates_TE,
            kept_TK=kept_TK,
            weight_T=valid_BN.flatten().to(logits_TE.dtype),
            species_T=species_B[:, None].expand(-1, bins).flatten(),
        )

    def _apply_experts(self, z_TD: Tensor, kept_TK: Tensor) -> Tensor:
        """Every token's kept experts, (T, K, D)."""
        device = z_TD.device.type
        if torch.is_autocast_enabled(device):
            z_TD = z_TD.to(torch.get_autocast_dtype(device))
        tokens, kept = kept_TK.shape
        order = kept_TK.flatten().argsort(stable=True)
        slots = z_TD[:, None, :].expand(-1, kept, -1).reshape(tokens * kept, -1)[order]
        counts_E = torch.zeros(self.w_in.shape[0], dtype=torch.int32, device=z_TD.device)
        ones = torch.ones_like(order, dtype=torch.int32)
        counts_E = counts_E.index_add(0, kept_TK.flatten(), ones)
        ends_E = counts_E.cumsum(0, dtype=torch.int32)
        w_in, w_out = self.w_in.to(slots.dtype), self.w_out.to(slots.dtype)
        product = choose_product(slots, w_in)
        out = product(F.relu(product(slots, w_in, ends_E)), w_out, ends_E)
        slot = torch.arange(tokens * kept, device=order.device)
        inverse = torch.empty_like(order).scatter(0, order, slot)
        y_TKD: Tensor = out[inverse].view(tokens, kept, -1)
        return y_TKD


Product = Callable[[Tensor, Tensor, Tensor], Tensor]


def choose_product(rows_RI: Tensor, weight_EIO: Tensor) -> Product:
    """The fastest way to multiply sorted rows by their expert's matrix on their device.

    On a CPU the grouped kernel takes 0.7 to 0.95 of the time of a loop over the experts. On a
    GPU it reads nothing back in bf16; in other types it does, and the masked product stands in.
    """
    on_cpu = rows_RI.device.type == "cpu"
    types = (torch.float32, torch.bfloat16) if on_cpu else (torch.bfloat16,)
    # The kernel wants every row to start at a multiple of 16 bytes.
    aligned = all(size * rows_RI.element_size() % 16 == 0 for size in weight_EIO.shape[1:])
    if rows_RI.dtype in types and aligned:
        return grouped_product
    return looped_product if on_cpu else masked_product


def grouped_product(rows_RI: Tensor, weight_EIO: Tensor, ends_E: Tensor) -> Tensor:
    """Rows `ends[e-1]:ends[e]` times matrix e, in one kernel."""
    product: Tensor = F.grouped_mm(rows_RI, weight_EIO, offs=ends_E)
    return product


def looped_product(rows_RI: Tensor, weight_EIO: Tensor, ends_E: Tensor) -> Tensor:
    """The same by one product per expert; any type, reads `ends` on the host."""
    ends = [0, *ends_E.tolist()]
    parts = [
        rows_RI[start:end] @ weight
        for start, end, weight in zip(ends[:-1], ends[1:], weight_EIO, strict=True)
    ]
    return torch.cat(parts)


def masked_product(rows_RI: Tensor, weight_EIO: Tensor, ends_E: Tensor) -> Tensor:
    """The same by every expert on all rows: n times the work, any type, no host read."""
    row_R = torch.arange(rows_RI.shape[0], device=rows_RI.device)
    expert_R1 = torch.bucketize(row_R, ends_E, right=True)[:, None]
    result = rows_RI @ weight_EIO[0]
    for expert in range(1, weight_EIO.shape[0]):
        result = torch.where(expert_R1 == expert, rows_RI @ weight_EIO[expert], result)
    return result


def _uniform(experts: int, inputs: int, outputs: int) -> Tensor:
    bound = inputs**-0.5
    return torch.empty(experts, inputs, outputs).uniform_(-bound, bound)
