"""A mixture of feed-forward experts: one shared expert and the top k of n routed ones.

Dimensions: T token (windows x bins), D channel, H hidden channel, E expert, K kept expert.
Router, softmax and combination are fp32 under autocast. Nothing here reads a value
back from the device: experts are chosen by sorting, never by testing for nonzero.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cislens.nn.routing import Routing


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
