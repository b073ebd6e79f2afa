"""A mixture of feed-forward experts: one shared expert and the top k of n routed ones.

Dimensions: T token (windows x bins), D channel, H hidden channel, E expert, K kept expert,
R slot (a token at one of its kept experts; T K of them, sorted by expert).
Router, softmax and combination are fp32 under autocast. On a GPU nothing is read back from the
device: experts are chosen by sorting, never by testing for nonzero.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from cislens.nn.precision import autocast_dtype, full_precision
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
        routing = self.route(z_BND, code_BC, species_B, valid_BN)
        gate_TK = routing.gates_TE.gather(1, routing.kept_TK)
        routed_TD = mix_experts(
            z_BND.flatten(0, 1), gate_TK, routing.kept_TK, self.w_in, self.w_out
        )
        shared_BND: Tensor = self.shared(z_BND)
        update = shared_BND + routed_TD.view_as(z_BND).to(shared_BND.dtype)
        return self.dropout(update), routing

    def route(self, z_BND: Tensor, code_BC: Tensor, species_B: Tensor, valid_BN: Tensor) -> Routing:
        """Router logits and kept experts, in fp32."""
        bins = z_BND.shape[1]
        with full_precision(z_BND.device):
            by_token = F.linear(z_BND.float(), self.router.weight.float())
            by_species = F.linear(code_BC.float(), self.species_router.weight.float())
            logits_TE = (by_token + by_species[:, None, :]).flatten(0, 1)
            kept_TK = logits_TE.detach().topk(self.kept, dim=-1).indices
            # The kept probabilities over their sum are the softmax of the kept logits. It runs
            # along the tokens: over few columns a CPU takes eight times as long.
            kept_logits_KT = logits_TE.gather(1, kept_TK).t().contiguous()
            gate_TK = kept_logits_KT.softmax(dim=0).t()
            gates_TE = torch.zeros_like(logits_TE).scatter(1, kept_TK, gate_TK)
        return Routing(
            logits_TE=logits_TE,
            gates_TE=gates_TE,
            kept_TK=kept_TK,
            weight_T=valid_BN.flatten().to(logits_TE.dtype),
            species_T=species_B[:, None].expand(-1, bins).flatten(),
        )


def mix_experts(
    z_TD: Tensor, gate_TK: Tensor, kept_TK: Tensor, w_in_EDH: Tensor, w_out_EHD: Tensor
) -> Tensor:
    """`sum_k gate_k relu(z w_in[kept_k]) w_out[kept_k]` of every token, (T, D), at least fp32.

    The gate goes onto the hidden channels: they are fewer, and the experts' outputs need not
    be kept for the gradient of the gate.
    """
    if (dtype := autocast_dtype(z_TD.device)) is not None:
        z_TD, w_in_EDH, w_out_EHD = z_TD.to(dtype), w_in_EDH.to(dtype), w_out_EHD.to(dtype)
    if z_TD.device.type == "cpu" and not torch.compiler.is_compiling():
        mixed: Tensor = _MixInLoop.apply(  # type: ignore[no-untyped-call]
            z_TD, gate_TK, kept_TK, w_in_EDH, w_out_EHD
        )
        return mixed
    return mix_sorted(z_TD, gate_TK, kept_TK, w_in_EDH, w_out_EHD)


def mix_sorted(
    z_TD: Tensor, gate_TK: Tensor, kept_TK: Tensor, w_in_EDH: Tensor, w_out_EHD: Tensor
) -> Tensor:
    """The same over all slots at once, sorted by expert; for GPUs and compilers."""
    tokens, kept = kept_TK.shape
    order_R = kept_TK.flatten().argsort(stable=True)
    slot_R = torch.arange(tokens * kept, device=order_R.device)
    slot_TK = torch.empty_like(order_R).scatter(0, order_R, slot_R).view(tokens, kept)
    token_R = order_R.div(kept, rounding_mode="floor")
    counts_E = torch.zeros(w_in_EDH.shape[0], dtype=torch.int32, device=order_R.device)
    counts_E = counts_E.index_add(0, kept_TK.flatten(), torch.ones_like(order_R, dtype=torch.int32))
    ends_E = counts_E.cumsum(0, dtype=torch.int32)
    z_RD: Tensor = _Spread.apply(  # type: ignore[no-untyped-call]
        z_TD, token_R, slot_TK
    )
    product = choose_product(z_RD, w_in_EDH)
    gate_R1 = gate_TK.flatten().gather(0, order_R)[:, None]
    hidden_RH = F.relu(product(z_RD, w_in_EDH, ends_E)) * gate_R1.to(z_RD.dtype)
    collected: Tensor = _Collect.apply(  # type: ignore[no-untyped-call]
        product(hidden_RH, w_out_EHD, ends_E), token_R, slot_TK
    )
    return collected


# The gradient of ReLU in one pass; `torch` has it under no public name.
threshold_backward = torch.ops.aten.threshold_backward


class _MixInLoop(torch.autograd.Function):
    """One expert after another: on a CPU its tokens stay in the cache from product to product.

    Buffers of all slots would be fresh memory at every step, which costs as much as a product.
    """

    @staticmethod
    def forward(
        ctx: Any,
        z_TD: Tensor,
        gate_TK: Tensor,
        kept_TK: Tensor,
        w_in_EDH: Tensor,
        w_out_EHD: Tensor,
    ) -> Tensor:
        expert_R = kept_TK.flatten()
        # Small integers are sorted several times faster.
        small = torch.uint8 if len(w_in_EDH) <= 256 else torch.int64
        order_R = expert_R.to(small).argsort(stable=True)
        counts = torch.bincount(expert_R, minlength=len(w_in_EDH)).tolist()
        token_R = order_R.div(kept_TK.shape[1], rounding_mode="floor")
        gate_R1 = gate_TK.flatten().index_select(0, order_R).to(z_TD.dtype)[:, None]
        y_TD = _zeros_to_sum(z_TD, w_out_EHD.shape[2])
        hidden = []
        with torch.autocast("cpu", enabled=False):
            tokens, gates = torch.split(token_R, counts), torch.split(gate_R1, counts)
            for token_S, gate_S1, w_in_DH, w_out_HD in zip(
                tokens, gates, w_in_EDH, w_out_EHD, strict=True
            ):
                hidden_SH = z_TD.index_select(0, token_S).mm(w_in_DH).relu_()
                part_SD = (hidden_SH * gate_S1).mm(w_out_HD)
                y_TD.index_add_(0, token_S, part_SD.to(y_TD.dtype))
                hidden.append(hidden_SH)
        ctx.save_for_backward(z_TD, gate_R1, order_R, token_R, w_in_EDH, w_out_EHD, *hidden)
        ctx.counts, ctx.kept, ctx.gate_dtype = counts, kept_TK.shape[1], gate_TK.dtype
        return y_TD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_TD: Tensor) -> tuple[Tensor, Tensor, None, Tensor, Tensor]:
        z_TD, gate_R1, order_R, token_R, w_in_EDH, w_out_EHD, *hidden = ctx.saved_tensors
        dy_TD = dy_TD.to(z_TD.dtype)
        dz_TD = _zeros_to_sum(z_TD, z_TD.shape[1])
        dw_in_EDH, dw_out_EHD = torch.empty_like(w_in_EDH), torch.empty_like(w_out_EHD)
        dgates = []
        with torch.autocast("cpu", enabled=False):
            tokens, gates = torch.split(token_R, ctx.counts), torch.split(gate_R1, ctx.counts)
            parts = enumerate(zip(tokens, gates, hidden, strict=True))
            for expert, (token_S, gate_S1, hidden_SH) in parts:
                dy_SD = dy_TD.index_select(0, token_S)
                dgated_SH = dy_SD.mm(w_out_EHD[expert].t())
                dgates.append((dgated_SH * hidden_SH).sum(dim=1, dtype=ctx.gate_dtype))
                torch.mm((hidden_SH * gate_S1).t(), dy_SD, out=dw_out_EHD[expert])
                dhidden_SH = threshold_backward(dgated_SH.mul_(gate_S1), hidden_SH, 0.0)
                torch.mm(z_TD.index_select(0, token_S).t(), dhidden_SH, out=dw_in_EDH[expert])
                part_SD = dhidden_SH.mm(w_in_EDH[expert].t())
                dz_TD.index_add_(0, token_S, part_SD.to(dz_TD.dtype))
        dgate_R = torch.cat(dgates)
        dgate_TK = torch.empty_like(dgate_R).scatter_(0, order_R, dgate_R).view(-1, ctx.kept)
        return dz_TD.to(z_TD.dtype), dgate_TK, None, dw_in_EDH, dw_out_EHD


def _zeros_to_sum(z_TD: Tensor, width: int) -> Tensor:
    dtype = torch.promote_types(z_TD.dtype, torch.float32)
    return z_TD.new_zeros(z_TD.shape[0], width, dtype=dtype)


class _Spread(torch.autograd.Function):
    """Tokens to their slots; the gradient collects, where that of an index adds row by row."""

    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, token_R: Tensor, slot_TK: Tensor) -> Tensor:
        ctx.save_for_backward(token_R, slot_TK)
        return x_TD.index_select(0, token_R)

    @staticmethod
    def backward(ctx: Any, dx_RD: Tensor) -> tuple[Tensor, None, None]:
        collected: Tensor = _Collect.apply(  # type: ignore[no-untyped-call]
            dx_RD, *ctx.saved_tensors
        )
        return collected.to(dx_RD.dtype), None, None


class _Collect(torch.autograd.Function):
    """Sums of each token's slots, at least fp32; the transpose of `_Spread`."""

    @staticmethod
    def forward(ctx: Any, x_RD: Tensor, token_R: Tensor, slot_TK: Tensor) -> Tensor:
        ctx.save_for_backward(token_R, slot_TK)
        ctx.dtype = x_RD.dtype
        dtype = torch.promote_types(x_RD.dtype, torch.float32)
        x_TKD = x_RD.index_select(0, slot_TK.flatten()).view(*slot_TK.shape, -1)
        return x_TKD.sum(dim=1, dtype=dtype)

    @staticmethod
    def backward(ctx: Any, dx_TD: Tensor) -> tuple[Tensor, None, None]:
        spread: Tensor = _Spread.apply(  # type: ignore[no-untyped-call]
            dx_TD.to(ctx.dtype), *ctx.saved_tensors
        )
        return spread, None, None


Product = Callable[[Tensor, Tensor, Tensor], Tensor]


def choose_product(rows_RI: Tensor, weight_EIO: Tensor) -> Product:
    """The fastest way to multiply sorted rows by their expert's matrix on their device.

    On a CPU the grouped kernel takes 0.7 to 0.95 of the time of a loop over the experts. On a
    GPU it reads nothing back in bf16; in other types it does, and the masked product stands in.
    A compiler knows the kernel in bf16 only, whatever the device.
    """
    host = rows_RI.device.type == "cpu" and not torch.compiler.is_compiling()
    types = (torch.float32, torch.bfloat16) if host else (torch.bfloat16,)
    # The kernel wants every row to start at a multiple of 16 bytes.
    aligned = all(size * rows_RI.element_size() % 16 == 0 for size in weight_EIO.shape[1:])
    if rows_RI.dtype in types and aligned:
        return grouped_product
    return looped_product if host else masked_product


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
