"""That the terms can be learned, and that what is learned holds for new loci."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from loci import batch, model
from torch import Tensor

from cislens.objectives.multimodal.batch import TorchRegionBatch
from cislens.objectives.multimodal.objective import TERMS, MultimodalObjective
from cislens.recipes.multimodal import MultimodalTerms

PAPER: dict[str, Any] = {
    "encoder": {"kind": "genebert-paper", "dim": 32, "depth": 1, "heads": 2, "k": 3, "dropout": 0},
    "match": "mlp",
}


def step(
    net: MultimodalObjective, optimizer: torch.optim.Optimizer, of: TorchRegionBatch
) -> dict[str, Tensor]:
    losses = net.loss(of)
    optimizer.zero_grad()
    losses.total.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    return dict(losses.terms)


@pytest.mark.parametrize("changes", [{}, PAPER], ids=["plus", "paper"])
def test_overfits_eight_loci_on_every_term(changes: dict[str, Any]) -> None:
    """200 steps, all terms together: each ends below a tenth of where it began."""
    net = MultimodalObjective(model(**changes), MultimodalTerms(**dict.fromkeys(TERMS, 1.0)))
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=0.0)
    of = batch(8)
    terms = [step(net, optimizer, of) for _ in range(200)]
    for name in TERMS:
        last = torch.stack([term[name] for term in terms[-5:]]).mean()
        assert last < 0.1 * terms[0][name], name
    metrics = net.eval().metrics()
    metrics.update(net.loss(of).predictions, None)
    values = metrics.summary()
    assert values["masked/accuracy"] == values["next/accuracy"] == values["match/accuracy"] == 1
    assert values["contrast/recall_at_1"] == 1
    assert min(values["regions/r2"], values["regions/access_r2"], values["motifs/r2"]) > 0.9


WIDTH, WORD, MOTIFS, STATES = 96, 8, 12, 3
_RNG = torch.Generator().manual_seed(5)
WORDS = torch.randint(0, 4, (MOTIFS, WORD), generator=_RNG, dtype=torch.uint8)
MIXTURE = torch.randn(STATES, MOTIFS, generator=_RNG) / STATES**0.5


def planted(seed: int, loci: int = 32) -> TorchRegionBatch:
    """Motif values of a context follow from three numbers of its locus, plus noise of sd .7.

    The central region holds the 8-mer of a motif where its value is above .7. Accessibility
    follows from the first motif, with noise of sd .6.
    """
    rng = torch.Generator().manual_seed(seed)
    of = batch(loci, WIDTH, seed)
    real = ~of.context.pad_BR
    state = torch.randn(loci, 1, STATES, generator=rng) @ MIXTURE
    motif = state + 0.7 * torch.randn(*real.shape, MOTIFS, generator=rng)
    access = 0.8 * motif[:, :, 0] + 0.6 * torch.randn(real.shape, generator=rng)
    codes = torch.randint(0, 4, (loci, MOTIFS, WORD), generator=rng, dtype=torch.uint8)
    center = motif[torch.arange(loci), of.context.center_B]
    codes = WORDS.where(center[:, :, None] > 0.7, codes).reshape(loci, WIDTH)
    turn = torch.randint(0, WORD, (1,), generator=rng)
    codes = codes.roll(int(turn), dims=1)
    context = replace(of.context, motif_BRT=motif * real[:, :, None], access_BR=access * real)
    return replace(of, target_BL=codes, codes_BL=codes, context=context, other=None, next_B=None)


@pytest.mark.slow
def test_what_is_learned_holds_for_new_loci() -> None:
    """300 steps of 32 loci.

    A sequence finds its own context among 32 of one GC content more than four times as often as
    by chance. Hidden regions are told better than by their neighbors.
    """
    net = MultimodalObjective(
        model(motifs=tuple(f"M{number}" for number in range(MOTIFS)), width=WIDTH),
        MultimodalTerms(masked=0.0, match=0.0, contrast=1.0, regions=1.0, motifs=0.5),
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for seed in range(300):
        step(net, optimizer, planted(seed))
    metrics = net.eval().metrics()
    with torch.no_grad():
        for seed in range(6):
            metrics.update(net.loss(planted(10_000 + seed)).predictions, None)
    values = metrics.summary()
    assert values["contrast/chance"] == pytest.approx(1 / 32)
    assert values["contrast/recall_at_1"] > 4 * values["contrast/chance"]
    assert values["regions/r2"] > values["regions/neighbor_r2"] + 0.03
    assert values["regions/access_r2"] > values["regions/access_neighbor_r2"] + 0.1
    assert values["motifs/r2"] > 0.3
