"""The decoder of the published SPACE model: experts along position, gated by profile type.

Yang, Zhu and Su (ICML 2025, arXiv 2506.01833), after the published code. Dimensions: B window,
N bin, T track of the head, S track of one type, D embedding channel, C species channel, Q type,
R router of a type, G group gate, E expert, K kept expert, X token (window x track).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from cislens.errors import CislensError, nearest
from cislens.models.decoders.contract import ONE_GROUP, Decoded, Decoder, HeadConfig
from cislens.nn.gate_losses import TrackRouting
from cislens.nn.gates import ExpertPool, gate_logits, keep_top, leaky_logits
from cislens.recipes.reading import Section

# The published profile types: DNASE/ATAC, TF ChIP-seq, histone ChIP-seq, CAGE.
PAPER_GROUPS = ("accessibility", "TF", "histone", "CAGE")
ROUTERS = 2


class PaperDecoderConfig(Section):
    """Shape of the published decoder.

    Attributes:
        bins: number of central bins; the experts' matrices act along them.
        experts, kept: experts in the pool, and how many of them one router keeps.
        dropout: in the experts, after the ReLU.
    """

    kind: Literal["space-paper"] = "space-paper"
    bins: int = Field(896, gt=0)
    experts: int = Field(8, gt=1)
    kept: int = Field(3, gt=0)
    dropout: float = Field(0.4, ge=0, lt=1)

    @model_validator(mode="after")
    def _enough_experts(self) -> "PaperDecoderConfig":
        if self.kept > self.experts:
            raise ValueError(f"kept {self.kept} is more than the {self.experts} experts")
        return self


@dataclass(frozen=True)
class _Order:
    """The tracks of a head sorted by type: their places, the way back, and their types."""

    place_T: Tensor
    back_T: Tensor
    type_T: Tensor


@dataclass(frozen=True)
class _Routed:
    """Gates of all tokens, both routers' choices (an expert may be there twice), the log of the
    mixture of their distributions, and the logits of all gates by type."""

    gates_XE: Tensor
    kept_XK: Tensor
    log_mixture_XE: Tensor
    gate_logits: tuple[Tensor, ...]


class PaperDecoder(Decoder):
    """o + y / 2 of the heads' logits o, where y = sum_k G_k expert_k(o).

    A track's token is its vector of logits over the bins. Two routers per type read it together
    with a vector of the type; they are mixed by w = softmax(W_y mean y) / 2 + softmax(W_e e) / 2
    with the species state e. Every parameter is shared by the species, and no track sees
    another one's logits. Bins of N only count as zeros and not in the mean.
    """

    loss_weights = (0.5, 0.5)
    groups = PAPER_GROUPS

    def __init__(
        self,
        config: PaperDecoderConfig,
        heads: tuple[HeadConfig, ...],
        dim: int,
        species_dim: int,
    ) -> None:
        """Args: dim: channels of the embedding; species_dim: of what is known of a species."""
        super().__init__()
        if not species_dim:
            raise CislensError(
                "The decoder space-paper mixes its routers by the species, of which this encoder "
                "knows nothing; take an encoder of kind space-paper, or no decoder."
            )
        self.config = config
        self.bins = config.bins
        bins, gates = config.bins, len(PAPER_GROUPS) * ROUTERS
        self.sequence_gate = nn.Linear(dim, gates)
        self.species_gate = nn.Linear(species_dim, gates)
        self.routers = nn.ModuleList(nn.Linear(bins, config.experts) for _ in range(gates))
        # Published weights hold this norm, although nothing uses it: kept so that they load and
        # export whole, and frozen because it never gets a gradient.
        self.norm = nn.LayerNorm(bins).requires_grad_(False)
        self.pool = ExpertPool(bins, 2 * bins, config.experts, config.dropout, 0.0)
        self.group_tokens = nn.ParameterList(
            nn.Parameter(torch.randn(1, 1, bins)) for _ in PAPER_GROUPS
        )
        # Types of each head's tracks. Plain numbers: published weights have no such entry.
        self._types: list[tuple[int, ...]] = []
        self._orders: dict[tuple[int, torch.device], _Order] = {}
        for head in heads:
            self.add_head(head)

    def add_head(self, head: HeadConfig) -> None:
        """Append a head, which needs no parameters.

        Raises:
            CislensError: if a track is in a group that the published decoder does not have.
        """
        for group in dict.fromkeys(head.track_groups):
            if group in PAPER_GROUPS:
                continue
            if group == ONE_GROUP:
                raise CislensError(
                    f"The head of {head.species} does not say in which groups its tracks are; "
                    f"the decoder space-paper needs one of {', '.join(PAPER_GROUPS)} for each."
                )
            track = head.tracks[head.track_groups.index(group)]
            raise CislensError(
                f"Track {track!r} of {head.species} is in group {group!r}, which the decoder "
                f"space-paper does not have. {nearest(group, PAPER_GROUPS)}"
            )
        self._types.append(tuple(PAPER_GROUPS.index(group) for group in head.track_groups))

    def forward(
        self,
        head: int,
        species: int,
        logits_BNT: Tensor,
        y_BND: Tensor,
        species_BC: Tensor,
        valid_BN: Tensor,
    ) -> Decoded:
        self._check_bins(logits_BNT.shape[1])
        dtype = torch.promote_types(logits_BNT.dtype, torch.float32)
        order = self._order(head, logits_BNT.device)
        batch, bins, tracks = logits_BNT.shape
        o_BNT = logits_BNT.to(dtype)
        shown_BNT = o_BNT.masked_fill(~valid_BN[:, :, None], 0.0)
        o_BTN = shown_BNT.transpose(1, 2).index_select(1, order.place_T)
        weight_BQR, group_logits_GBQR = self._group_gates(y_BND, species_BC, valid_BN)
        routed = self._route(head, o_BTN, weight_BQR, group_logits_GBQR)
        # An expert that both routers chose runs once; slots that this leaves over weigh 0.
        slots = min(ROUTERS * self.config.kept, self.config.experts)
        gate_XK, slot_XK = routed.gates_XE.topk(slots, dim=-1)
        y_XN: Tensor = self.pool(o_BTN.flatten(0, 1), slot_XK, gate_XK)
        y_BTN = y_XN.view(batch, tracks, bins).index_select(1, order.back_T)
        y_BNT = y_BTN.transpose(1, 2).to(dtype)
        routing = TrackRouting(
            logits_TE=routed.log_mixture_XE,
            gates_TE=routed.gates_XE,
            kept_TK=routed.kept_XK,
            weight_T=valid_BN.any(dim=1).to(gate_XK.dtype).repeat_interleave(tracks),
            species_T=torch.full_like(slot_XK[:, 0], species),
            group_T=order.type_T.repeat(batch),
            gate_logits=routed.gate_logits,
        )
        return Decoded(o_BNT + y_BNT / 2, o_BNT + y_BNT, (routing,))

    def _group_gates(
        self, y_BND: Tensor, species_BC: Tensor, valid_BN: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Weights of the routers of each type, and the two sets of logits they come from."""
        dtype = torch.promote_types(y_BND.dtype, torch.float32)
        # Not a weighted sum: no value of an invalid bin may reach the mean.
        kept_BND = y_BND.to(dtype).masked_fill(~valid_BN[:, :, None], 0.0)
        mean_BD = kept_BND.sum(dim=1) / valid_BN.sum(dim=1, keepdim=True).clamp_min(1)
        by_sequence = gate_logits(self.sequence_gate, mean_BD)
        by_species = gate_logits(self.species_gate, species_BC)
        shape = (2, len(y_BND), len(PAPER_GROUPS), ROUTERS)
        logits_GBQR = torch.stack([by_sequence, by_species]).view(shape)
        return logits_GBQR.softmax(dim=-1).mean(dim=0), logits_GBQR

    def _route(
        self, head: int, o_BTN: Tensor, weight_BQR: Tensor, group_logits_GBQR: Tensor
    ) -> "_Routed":
        gates, kept, mixtures = [], [], []
        all_logits: list[Tensor] = []
        sizes = [self._types[head].count(kind) for kind in range(len(PAPER_GROUPS))]
        for kind, o_BSN in enumerate(torch.split_with_sizes(o_BTN, sizes, dim=1)):
            if not sizes[kind]:
                continue
            p_BSN = o_BSN + self.group_tokens[kind]
            routers = self.routers[kind * ROUTERS : (kind + 1) * ROUTERS]
            logits_RBSE = torch.stack([leaky_logits(router, p_BSN) for router in routers])
            kept_RBSK, top_RBSK = keep_top(logits_RBSE, self.config.kept)
            own_RBSE = torch.zeros_like(logits_RBSE).scatter(-1, kept_RBSK, top_RBSK)
            weight_RB11 = weight_BQR[:, kind].T[..., None, None]
            gates.append((weight_RB11 * own_RBSE).sum(dim=0))
            kept.append(torch.cat(kept_RBSK.unbind(0), dim=-1))
            mixtures.append((weight_RB11 * logits_RBSE.softmax(dim=-1)).sum(dim=0))
            all_logits += [*logits_RBSE.unbind(0), *group_logits_GBQR[:, :, kind].unbind(0)]
        mixture_XE = torch.cat(mixtures, dim=1).flatten(0, 1)
        return _Routed(
            gates_XE=torch.cat(gates, dim=1).flatten(0, 1),
            kept_XK=torch.cat(kept, dim=1).flatten(0, 1),
            log_mixture_XE=mixture_XE.clamp_min(torch.finfo(mixture_XE.dtype).tiny).log(),
            gate_logits=tuple(all_logits),
        )

    def _check_bins(self, found: int) -> None:
        expected = self.config.bins
        if found == expected:
            return
        missing = abs(expected - found)
        change = "longer" if found < expected else "shorter"
        raise CislensError(
            f"The decoder space-paper is made for exactly {expected} central bins, found {found}. "
            f"Give windows {missing} bins {change}: with bins of 128 bp by {missing * 128:,} bp, "
            f"so that {expected * 128:,} bp are left after the model's crop."
        )

    def _order(self, head: int, device: torch.device) -> _Order:
        key = (head, device)
        if key not in self._orders:
            self._orders[key] = _sorted_by_type(self._types[head], device)
        return self._orders[key]


def _sorted_by_type(types: Sequence[int], device: torch.device) -> _Order:
    # A table made under inference_mode could not be used in training later.
    with torch.inference_mode(False), torch.no_grad():
        type_T, place_T = torch.tensor(types, device="cpu").sort(stable=True)
        back_T = place_T.argsort()
        return _Order(place_T.to(device), back_T.to(device), type_T.to(device))
