"""The published forward passes, written plainly from their description, for comparison only.

Consumes a state dict in the published key layout (SPACE with or without `model.`). Nothing here
is shared with the package: no loop is fused, no layer is a module, and every step is one line of
the description. fp32, evaluation mode.

Dimensions: B window, L position, C channel, N token, D transformer channel, H head, T track.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]
BINS = 896


def gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def batch_norm(state: State, at: str, x_BCL: Tensor) -> Tensor:
    return F.batch_norm(
        x_BCL,
        state[f"{at}.running_mean"],
        state[f"{at}.running_var"],
        state[f"{at}.weight"],
        state[f"{at}.bias"],
        training=False,
        eps=1e-5,
    )


def layer_norm(state: State, at: str, x_BND: Tensor) -> Tensor:
    return F.layer_norm(x_BND, x_BND.shape[-1:], state[f"{at}.weight"], state[f"{at}.bias"], 1e-5)


def conv_block(state: State, at: str, x_BCL: Tensor) -> Tensor:
    """BN, activation, convolution; `at.0` and `at.2`."""
    weight = state[f"{at}.2.weight"]
    h_BCL = gelu(batch_norm(state, f"{at}.0", x_BCL))
    return F.conv1d(h_BCL, weight, state[f"{at}.2.bias"], padding=weight.shape[2] // 2)


def attention_pool(state: State, at: str, x_BCL: Tensor) -> Tensor:
    """Even lengths only: all that 131,072 bp meets."""
    weight_CC = state[f"{at}.to_attn_logits.weight"][:, :, 0, 0]
    logits = torch.einsum("oc,bcl->bol", weight_CC, x_BCL)
    batch, channels, length = x_BCL.shape
    pairs = x_BCL.reshape(batch, channels, length // 2, 2)
    weights = logits.reshape(batch, channels, length // 2, 2).softmax(dim=-1)
    return (pairs * weights).sum(dim=-1)


def tower(state: State, x_B4L: Tensor) -> Tensor:
    """(B, 4, L) -> (B, N, D)."""
    x = F.conv1d(x_B4L, state["stem.0.weight"], state["stem.0.bias"], padding=7)
    x = x + conv_block(state, "stem.1.fn", x)
    x = attention_pool(state, "stem.2", x)
    stage = 0
    while f"conv_tower.{stage}.0.0.weight" in state:
        x = conv_block(state, f"conv_tower.{stage}.0", x)
        x = x + conv_block(state, f"conv_tower.{stage}.1.fn", x)
        x = attention_pool(state, f"conv_tower.{stage}.2", x)
        stage += 1
    return x.transpose(1, 2)


def basis(tokens: int, features: int) -> Tensor:
    """Rows d = -(n-1) .. n-1; gamma features divided by the maximum of their row."""
    count = features // 6
    distance = torch.arange(-(tokens - 1), tokens).float()
    size = distance.abs()[:, None]
    half_life = 2 ** torch.linspace(3, math.log2(tokens), count)
    exponential = 2 ** (-size / half_life)
    mask = (size < 2.0 ** torch.arange(1, count + 1) - 1).float()
    index = torch.arange(1, count + 1).float()
    alpha, beta = 4 * index**2, 4 * index * count / tokens
    log_density = torch.xlogy(alpha - 1, size) - beta * size
    density = (log_density - torch.lgamma(alpha) + alpha * beta.log()).exp() + 1e-8
    gamma = density / density.max(dim=1, keepdim=True).values
    one_sided = torch.cat([exponential, mask, gamma], dim=1)
    return torch.cat([one_sided, distance.sign()[:, None] * one_sided], dim=1)


def attention(state: State, at: str, x_BND: Tensor) -> Tensor:
    """Relative attention; the position logit of (i, j) is looked up at row j - i."""
    u, v = state[f"{at}.rel_content_bias"], state[f"{at}.rel_pos_bias"]
    _, heads, _, key_dim = u.shape
    tokens = x_BND.shape[1]

    def split(name: str, x: Tensor) -> Tensor:
        h = x @ state[f"{at}.{name}.weight"].T
        return h.reshape(*h.shape[:-1], heads, -1).transpose(-2, -3)

    q, k, value = (split(name, x_BND) for name in ("to_q", "to_k", "to_v"))
    q = q * key_dim**-0.5
    r = split("to_rel_k", basis(tokens, state[f"{at}.to_rel_k.weight"].shape[1]))
    place = torch.arange(tokens)
    row_NN = place[None, :] - place[:, None] + tokens - 1
    by_row = torch.einsum("bhid,hrd->bhir", q + v, r)
    position = by_row.gather(3, row_NN.expand(*by_row.shape[:2], tokens, tokens))
    logits = torch.einsum("bhid,bhjd->bhij", q + u, k) + position
    mixed = torch.einsum("bhij,bhjd->bhid", logits.softmax(dim=-1), value)
    joined = mixed.transpose(1, 2).flatten(2)
    return joined @ state[f"{at}.to_out.weight"].T + state[f"{at}.to_out.bias"]


def top_gates(logits: Tensor, kept: int = 3) -> Tensor:
    """Softmax over the `kept` highest logits of the last axis, zero elsewhere."""
    values, places = logits.topk(kept, dim=-1)
    return torch.zeros_like(logits).scatter(-1, places, values.softmax(dim=-1))


def species_experts(state: State, at: str, x_BND: Tensor, species: str) -> Tensor:
    gate = f"{at}.gates.{species}.0"
    logits = x_BND @ state[f"{gate}.weight"].T + state[f"{gate}.bias"]
    gates_BNE = top_gates(F.leaky_relu(logits, 0.01))
    z = layer_norm(state, f"{at}.layer_norm", x_BND)
    update = torch.zeros_like(x_BND)
    for expert in range(gates_BNE.shape[-1]):
        hidden = z @ state[f"{at}.input.weight"][expert] + state[f"{at}.input.bias"][expert]
        y = hidden.relu() @ state[f"{at}.output.weight"][expert]
        update += gates_BNE[..., expert, None] * (y + state[f"{at}.output.bias"][expert])
    return update


def profile_decoder(
    state: State, o_BNT: Tensor, y_BND: Tensor, e_BD: Tensor, types: list[int]
) -> tuple[Tensor, Tensor]:
    """Rates of both loss terms; `types` is the type q = 0..3 of each track."""
    by_profile = y_BND.mean(dim=1) @ state["tracks.gate_selector.weight"].T
    by_profile = by_profile + state["tracks.gate_selector.bias"]
    by_species = e_BD @ state["tracks.embedding_gate_selector.weight"].T
    by_species = by_species + state["tracks.embedding_gate_selector.bias"]
    names = ("DNASE/ATAC", "TF ChIP-seq", "Histone ChIP-seq", "CAGE")
    update = torch.zeros_like(o_BNT)
    for window in range(o_BNT.shape[0]):
        for track, kind in enumerate(types):
            pair = slice(2 * kind, 2 * kind + 2)
            share = by_profile[window, pair].softmax(dim=0) / 2
            share = share + by_species[window, pair].softmax(dim=0) / 2
            o_N = o_BNT[window, :, track]
            p_N = o_N + state[f"tracks.tracks_embedding.{names[kind]}"][0, 0]
            gates_E = 0
            for which in (0, 1):
                gate = f"tracks.gates.{2 * kind + which}.0"
                logits = state[f"{gate}.weight"] @ p_N + state[f"{gate}.bias"]
                gates_E = gates_E + share[which] * top_gates(F.leaky_relu(logits, 0.01))
            for expert, weight in enumerate(gates_E):
                hidden = o_N @ state["tracks.input_proj.weight"][expert]
                hidden = (hidden + state["tracks.input_proj.bias"][expert]).relu()
                y_N = hidden @ state["tracks.output_proj.weight"][expert]
                y_N = y_N + state["tracks.output_proj.bias"][expert]
                update[window, :, track] += weight * y_N
    return F.softplus(o_BNT + update / 2), F.softplus(o_BNT + update)


def pointwise(state: State, x_BND: Tensor) -> Tensor:
    return gelu(conv_block(state, "final_pointwise.1", x_BND.transpose(1, 2))).transpose(1, 2)


def space(
    state: State, x_B4L: Tensor, species: str, types: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Output and enhanced rates (B, 896, T) and the embedding (B, 896, 2 D) of one species."""
    state = {key.removeprefix("model."): value for key, value in state.items()}
    x = tower(state, x_B4L)
    token = state[f"transformer.species_embedding.{species}"].expand(len(x), 1, -1)
    x = torch.cat([x, token], dim=1)
    block = 0
    while f"transformer.transformer.{block}.attention.fn.0.weight" in state:
        at = f"transformer.transformer.{block}"
        normed = layer_norm(state, f"{at}.attention.fn.0", x)
        x = x + attention(state, f"{at}.attention.fn.1", normed)
        x = x + species_experts(state, f"{at}.feed_forward", x, species)
        block += 1
    x, e_BD = x[:, :-1], x[:, -1]
    side = (x.shape[1] - BINS) // 2
    y = pointwise(state, x[:, side : side + BINS])
    o = y @ state[f"heads.{species}.0.weight"].T + state[f"heads.{species}.0.bias"]
    out, enhanced = profile_decoder(state, o, y, e_BD, types)
    return out, enhanced, y
