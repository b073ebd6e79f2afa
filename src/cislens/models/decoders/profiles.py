"""A decoder in which the profiles of one bin see each other, through one token per assay group.

Dimensions: B window, N bin, T track of the head, G group of the head, R channel of a group token
(`GR` both in one), D embedding channel, C species channel, U unit (a track, or a pair of strands),
P pair of strands, H attention head, K key channel.
"""

import warnings
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from cislens.errors import CislensError
from cislens.models.decoders.contract import Decoded, Decoder, HeadConfig
from cislens.nn.experts import Experts
from cislens.nn.precision import full_precision
from cislens.nn.routing import Routing
from cislens.recipes.reading import Section


class ProfilesDecoderConfig(Section):
    """Shape of the cross-profile decoder.

    Attributes:
        width: channels of a group token.
        heads: of the attention between group tokens.
        experts, kept: routed experts, and how many of them each group token uses.
    """

    kind: Literal["profiles"] = "profiles"
    width: int = Field(64, gt=0)
    heads: int = Field(4, gt=0)
    experts: int = Field(8, gt=1)
    kept: int = Field(2, gt=0)

    @model_validator(mode="after")
    def _consistent(self) -> "ProfilesDecoderConfig":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} does not divide into {self.heads} heads")
        if self.kept > self.experts:
            raise ValueError(f"kept {self.kept} is more than the {self.experts} experts")
        return self


class GroupInput(nn.Module):
    """What a group token starts from beside the logits: W_y y + W_s e + T."""

    def __init__(self, width: int, dim: int, species_dim: int) -> None:
        super().__init__()
        self.from_bin = nn.Parameter(_uniform(width, dim))
        self.from_species = nn.Parameter(_uniform(width, species_dim))
        self.token = nn.Parameter(0.02 * torch.randn(width))


class GroupAttention(nn.Module):
    """Attention between the group tokens of one bin; no positions. Softmax in fp32."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.to_out = nn.Linear(width, width)

    def forward(self, z_BNGR: Tensor) -> Tensor:
        qkv_BNGXHK = self.to_qkv(z_BNGR).unflatten(3, (3, self.heads, -1))
        q_BNHGK, k_BNHGK, v_BNHGK = qkv_BNGXHK.permute(3, 0, 1, 4, 2, 5).unbind(0)
        logits_BNHGG = (q_BNHGK * self.scale) @ k_BNHGK.transpose(-1, -2)
        dtype = torch.promote_types(logits_BNHGG.dtype, torch.float32)
        weights = logits_BNHGG.to(dtype).softmax(dim=-1).to(v_BNHGK.dtype)
        out: Tensor = self.to_out((weights @ v_BNHGK).transpose(2, 3).flatten(3))
        return out


class GroupExperts(Experts):
    """Experts whose routed members are as wide as the shared one and see every token.

    The tokens are few and narrow: at the published size all experts on all of them cost 2 % of the
    head's multiplications. Sorted by expert, a token's last bits would depend on how many tokens of
    other bins share its expert; so they do not, and nothing of a bin reaches another.
    """

    def __init__(self, width: int, experts: int, kept: int, code_dim: int) -> None:
        with warnings.catch_warnings():
            # torch warns of a species code without channels; it has no effect and no weights.
            warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
            super().__init__(width, experts, kept, code_dim, dropout=0.0)
        bound = width**-0.5
        for name in ("w_in", "w_out"):
            weight = torch.empty(experts, width, width).uniform_(-bound, bound)
            setattr(self, name, nn.Parameter(weight))

    def forward(
        self, z_BND: Tensor, code_BC: Tensor, species_B: Tensor, valid_BN: Tensor
    ) -> tuple[Tensor, Routing]:
        routing = self.route(z_BND, code_BC, species_B, valid_BN)
        z_TD = z_BND.flatten(0, 1)
        hidden_TX = F.relu(z_TD @ self.w_in.transpose(0, 1).flatten(1))
        hidden_TEH = hidden_TX.view(len(z_TD), self.w_in.shape[0], -1)
        gated_TEH = hidden_TEH * routing.gates_TE.to(hidden_TEH.dtype).unsqueeze(2)
        routed_TD = gated_TEH.flatten(1) @ self.w_out.flatten(0, 1)
        update: Tensor = self.shared(z_BND) + routed_TD.view_as(z_BND)
        return update, routing


class HeadFactors(nn.Module):
    """How the tracks of one head speak to their group tokens and hear from them.

    The two strands of a pair are one unit with common factors. So the sum over a group of
    A_t o_t is that of A_t (o_t + o_pair) / 2, and only half the difference of the strands
    needs a factor of its own.

    Attributes:
        groups: index of the head's groups among those of the whole model.
        read_UR: A, from logits to tokens.
        write_UR: B, from tokens to logits; zero at the start.
        tilt_PR: b, from tokens to the difference of two strands; zero at the start, None where
            no track has another strand.
    """

    own_TG: Tensor
    group_G: Tensor
    unit_T: Tensor
    strands_2P: Tensor

    def __init__(self, head: HeadConfig, groups: tuple[str, ...], width: int) -> None:
        super().__init__()
        local = list(dict.fromkeys(head.track_groups))
        self.groups = tuple(groups.index(name) for name in local)
        unit_T, strands_P2 = _units(head)
        own_T = torch.tensor([local.index(name) for name in head.track_groups], device="cpu")
        # Made on the CPU whatever the default device: a model that is built on "meta" is filled
        # from stored weights, and these are not stored.
        for name, value in (
            ("own_TG", F.one_hot(own_T, len(local)).float()),
            ("group_G", torch.tensor(self.groups, device="cpu")),
            ("unit_T", torch.tensor(unit_T, device="cpu")),
            ("strands_2P", torch.tensor(strands_P2, dtype=torch.int64, device="cpu").view(-1, 2).T),
        ):
            self.register_buffer(name, value, persistent=False)
        units = max(unit_T) + 1
        self.read_UR = nn.Parameter(width**-0.5 * torch.randn(units, width))
        self.write_UR = nn.Parameter(torch.zeros(units, width))
        self.tilt_PR = nn.Parameter(torch.zeros(len(strands_P2), width)) if strands_P2 else None

    def read(self, logits_BNT: Tensor) -> Tensor:
        """|q|^-0.5 times the sum of A_t o_t over the tracks of every group, as (B, N, GR)."""
        own_TG = self.own_TG.to(logits_BNT.device)
        share_TG = own_TG * own_TG.sum(dim=0).rsqrt()
        # One product with zeros for the tracks of other groups: G times the multiplications of
        # a sum per group, but still far fewer than the head has, and no copy of the logits.
        weight_TX = _by_group(self.read_UR[self.unit_T.to(own_TG.device)], share_TG)
        tokens: Tensor = logits_BNT @ weight_TX
        return tokens

    def write(self, logits_BNT: Tensor, z_BNX: Tensor) -> Tensor:
        """o_t + B_t z + (o_t - o_pair) / 2 * tanh(b_t z), with z the token of the track's group."""
        with full_precision(logits_BNT.device):
            z_NX = z_BNX.flatten(0, 1).to(logits_BNT.dtype)
            own_TG, unit_T, strands_2P = (
                index.to(z_NX.device) for index in (self.own_TG, self.unit_T, self.strands_2P)
            )
            weight_TX = _by_group(self.write_UR[unit_T], own_TG).to(z_NX.dtype)
            # The sum is part of the product: no second tensor of the size of the logits.
            decoded_NT = torch.addmm(logits_BNT.flatten(0, 1), z_NX, weight_TX.T)
            if self.tilt_PR is not None:
                first_P, second_P = strands_2P
                tilt_PX = _by_group(self.tilt_PR, own_TG[first_P]).to(z_NX.dtype)
                tilt_NP = torch.tanh(z_NX @ tilt_PX.T)
                half_NP = (logits_BNT[..., first_P] - logits_BNT[..., second_P]).flatten(0, 1) / 2
                change_NP = half_NP * tilt_NP
                both = torch.cat([change_NP, -change_NP], dim=1)
                decoded_NT.index_add_(1, strands_2P.flatten(), both)
        return decoded_NT.view_as(logits_BNT)


class ProfilesDecoder(Decoder):
    """Mixes the profiles of each bin; the identity at the start.

    Per group q of a head and per bin: `c_q = |q|^-0.5 sum_{t in q} A_t o_t + W_y y + W_s e + T`,
    `z = c + attention over the groups`, `z = z + experts(z)`, both on normed tokens since logits
    of counts reach hundreds. `o_t + B_t LN(z_q) + (o_t - o_pair) / 2 * tanh(b_t LN(z_q))` is the
    decoded logit of a track. W_y, W_s and T belong to the group's name and are common to all
    species; A, B and b belong to the head, and the strands of a pair share them.

    No weight knows a bin and bins do not see each other, so a shift of logits and embedding
    shifts the result. So does reversing the bins of both and swapping the strands.
    """

    def __init__(
        self,
        config: ProfilesDecoderConfig,
        heads: tuple[HeadConfig, ...],
        dim: int,
        species_dim: int,
    ) -> None:
        super().__init__()
        self.config = config
        self.dim = dim
        self.species_dim = species_dim
        self.loss_weights = (1.0, 0.5)
        self.groups = ()
        width = config.width
        self.inputs = nn.ModuleList()
        self.heads = nn.ModuleList()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = GroupAttention(width, config.heads)
        self.experts_norm = nn.LayerNorm(width)
        self.experts = GroupExperts(width, config.experts, config.kept, species_dim)
        self.norm = nn.LayerNorm(width)
        for head in heads:
            self.add_head(head)

    def forward(
        self,
        head: int,
        species: int,
        logits_BNT: Tensor,
        y_BND: Tensor,
        species_BC: Tensor,
        valid_BN: Tensor,
    ) -> Decoded:
        factors = self.heads[head]
        assert isinstance(factors, HeadFactors)
        inputs = [self.inputs[group] for group in factors.groups]
        c_BNX = factors.read(logits_BNT) + F.linear(y_BND, _joined(inputs, "from_bin"))
        of_species_BX = F.linear(species_BC, _joined(inputs, "from_species"))
        of_window_BX = of_species_BX + _joined(inputs, "token")
        c_BNX = c_BNX + of_window_BX[:, None]
        z_BNGR = c_BNX.view(*c_BNX.shape[:2], len(inputs), -1)
        z_BNGR = z_BNGR + self.attention(self.attention_norm(z_BNGR))
        update, routing = self._route(z_BNGR, factors.group_G, species, species_BC, valid_BN)
        z_BNX = self.norm(z_BNGR + update).flatten(2)
        return Decoded(factors.write(logits_BNT, z_BNX), logits_BNT, (routing,))

    def _route(
        self,
        z_BNGR: Tensor,
        group_G: Tensor,
        species: int,
        species_BC: Tensor,
        valid_BN: Tensor,
    ) -> tuple[Tensor, Routing]:
        batch, bins, count, _ = z_BNGR.shape
        species_B = torch.full((batch,), species, dtype=torch.int64, device=z_BNGR.device)
        counted_BT = valid_BN[:, :, None].expand(-1, -1, count).flatten(1)
        normed = self.experts_norm(z_BNGR).flatten(1, 2)
        update, routing = self.experts(normed, species_BC, species_B, counted_BT)
        return update.view_as(z_BNGR), replace(routing, group_T=group_G.repeat(batch * bins))

    def add_head(self, head: HeadConfig) -> None:
        """Append a head, and an input for each of its groups that no other head has.

        Raises:
            CislensError: if two strands of one signal are in different groups.
        """
        factors = HeadFactors(head, self._with_groups_of(head), self.config.width)
        new = [
            GroupInput(self.config.width, self.dim, self.species_dim)
            for _ in self._with_groups_of(head)[len(self.groups) :]
        ]
        device = self.norm.weight.device
        self.groups = self._with_groups_of(head)
        self.inputs.extend(module.to(device) for module in new)
        self.heads.append(factors if device.type == "meta" else factors.to(device))

    def _with_groups_of(self, head: HeadConfig) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.groups, *head.track_groups)))


def _units(head: HeadConfig) -> tuple[list[int], list[tuple[int, int]]]:
    """The unit of each track, and the places of the two strands of every pair."""
    unit_T: list[int] = []
    strands: list[tuple[int, int]] = []
    groups = head.track_groups
    units = 0
    for track, pair in enumerate(head.pairs):
        if groups[track] != groups[pair]:
            raise CislensError(
                f"Tracks {head.tracks[track]!r} and {head.tracks[pair]!r} of {head.species!r} are "
                f"strands of one signal, but their groups are {groups[track]!r} and "
                f"{groups[pair]!r}; give both the same group."
            )
        if pair < track:
            strands.append((pair, track))
            unit_T.append(unit_T[pair])
        else:
            unit_T.append(units)
            units += 1
    return unit_T, strands


def _by_group(factors_TR: Tensor, share_TG: Tensor) -> Tensor:
    """Factors of every track in the columns of its group, zeros in the others', (T, GR)."""
    return (share_TG[:, :, None] * factors_TR[:, None, :]).flatten(1)


def _joined(inputs: list[nn.Module], name: str) -> Tensor:
    return torch.cat([module.get_parameter(name) for module in inputs])


def _uniform(outputs: int, inputs: int) -> Tensor:
    bound = max(inputs, 1) ** -0.5
    return torch.empty(outputs, inputs).uniform_(-bound, bound)
