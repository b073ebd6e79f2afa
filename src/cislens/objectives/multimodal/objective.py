"""Pre-training on sequences and the regions around them.

Dimensions: B locus, L base pair, R region, T motif, E channel.
"""

from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cislens.errors import CislensError
from cislens.models.genebert.contract import RegionTokens
from cislens.models.genebert.multimodal import MultimodalModel
from cislens.models.reading import Reading
from cislens.nn.gathering import (
    gather_rows,
    share_of_loss,
    share_of_rows,
    sum_over_devices,
    world_size,
)
from cislens.nn.pairwise import sigmoid_contrast
from cislens.nn.precision import full_precision
from cislens.objectives.bases import masked_term, scored_bases
from cislens.objectives.contract import Losses, Objective
from cislens.objectives.multimodal.batch import TorchRegionBatch
from cislens.objectives.multimodal.masked import next_term
from cislens.objectives.multimodal.matching import gc_gap, match_term, mixed, most_alike
from cislens.objectives.multimodal.metrics import MultimodalMetrics
from cislens.objectives.multimodal.regions import (
    asked_regions,
    center_motifs,
    motifs_term,
    regions_term,
    shown,
)
from cislens.objectives.profile import one_hot
from cislens.recipes.multimodal import MultimodalTerms

TERMS = ("masked", "next", "match", "contrast", "regions", "motifs")
_FILLED = {"masked", "next"}
_MATCHED = {"match", "contrast"}
_WHOLE = {*_MATCHED, "motifs"}
Named = dict[str, Tensor]


class MultimodalObjective(Objective):
    """The weighted sum of what is asked of sequences, of regions, and of both.

    A batch is read at most twice. `masked` and `next` read the sequence with bases hidden, as
    BERT does; `match`, `contrast` and `motifs` read it whole, once for all three. Likewise
    `regions` encodes the context with regions hidden, and `match` and `contrast` with all shown
    but the accessibility of the central region, which `MultimodalModel.joint` does not see
    either. A term of weight 0 is not computed, nor is a pass that only such terms need.

    Terms: those of a weight above 0, before weighting, and `loss`, their weighted sum. The
    formulas are in `objectives.bases`, `masked`, `matching` and `regions` of this package and in
    `cislens.nn.pairwise`; all are in fp32 and the same in training and evaluation.

    With `negatives: matched` and contrastive matching, a third of the contexts that `match` tells
    from the right ones are alike ones of the batch, exchanged (`matching.most_alike`).
    """

    model: MultimodalModel

    def __init__(self, model: MultimodalModel, terms: MultimodalTerms | None = None) -> None:
        super().__init__()
        self.model = model
        self.settings = terms or MultimodalTerms()
        self.weights = {
            name: float(getattr(self.settings, name))
            for name in TERMS
            if getattr(self.settings, name)
        }

    def loss(self, batch: TorchRegionBatch) -> Losses:
        terms, predictions = self.forward_terms(batch)
        total = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        named = {name: term.detach() for name, term in terms.items()}
        return Losses(
            total=share_of_loss(total, self.model, batch.windows()),
            terms={**named, "loss": total.detach()},
            predictions={name: value.detach() for name, value in predictions.items()},
        )

    def metrics(self) -> MultimodalMetrics:
        return MultimodalMetrics()

    def forward_terms(self, batch: TorchRegionBatch) -> tuple[Named, Named]:
        """The terms in the graph, before weighting, and what the metrics need.

        Raises:
            CislensError: if the batch lacks what a term asks about.
        """
        terms: Named = {}
        predictions: Named = {}
        for needs, part in (
            (_FILLED, self._filled),
            (_WHOLE, self._whole),
            ({"regions"}, self._regions),
        ):
            if needs & set(self.weights):
                of_part, seen = part(batch)
                terms |= of_part
                predictions |= seen
        return terms, predictions

    def _filled(self, batch: TorchRegionBatch) -> tuple[Named, Named]:
        """Terms of the sequence with bases hidden."""
        x_B4L = one_hot(batch.codes_BL)
        reading = self.model.read(x_B4L, batch.hidden_BL, pair=batch.next_B is not None)
        terms, seen = {}, {}
        if "masked" in self.weights:
            logits_BL4 = self.model.base_logits(reading)
            terms["masked"] = masked_term(logits_BL4, batch.target_BL, batch.scored_BL)
            seen["masked/logits"], seen["masked/target"] = logits_BL4, batch.target_BL
            # Those left visible could be copied, which is no skill.
            unseen_BL = batch.scored_BL & batch.hidden_BL
            seen["masked/scored"] = scored_bases(batch.target_BL, unseen_BL)
        if "next" in self.weights:
            if batch.next_B is None:
                raise _absent("next", "tells no segments apart")
            logits_B2 = self.model.next_logits(reading)
            terms["next"] = next_term(logits_B2, batch.next_B)
            seen["next/logits"], seen["next/target"] = logits_B2, batch.next_B
        return terms, seen

    def _whole(self, batch: TorchRegionBatch) -> tuple[Named, Named]:
        """Terms of the whole sequence."""
        reading = self.model.read(one_hot(batch.target_BL), pair=batch.next_B is not None)
        terms, seen = {}, {}
        if "motifs" in self.weights:
            motif_BT = self.model.motif_values(reading)
            terms["motifs"] = motifs_term(motif_BT, batch.context)
            seen["motifs/predicted"] = motif_BT
            seen["motifs/value"] = center_motifs(batch.context)
        if not _MATCHED & set(self.weights):
            return terms, seen
        own = self.model.regions(shown(batch.context))
        vectors, apart_BA = None, batch.apart()
        if "contrast" in self.weights:
            vectors = q_BE, m_BE = self.model.project(reading, own)
            scale, bias = self.model.scale()
            terms["contrast"] = sigmoid_contrast(q_BE, m_BE, scale, bias, apart_BA)
            with full_precision(q_BE.device):
                seen["contrast/like"] = q_BE.detach().float() @ m_BE.detach().float().T
            seen["contrast/apart"] = apart_BA
        if "match" in self.weights:
            terms["match"], matched = self._match(batch, reading, own, vectors)
            seen |= matched
        return terms, seen

    def _match(
        self,
        batch: TorchRegionBatch,
        reading: Reading,
        own: RegionTokens,
        vectors: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Named]:
        if batch.other is None:
            raise _absent("match", "has no contexts that do not belong")
        other, other_gc_B = self.model.regions(shown(batch.other)), batch.other.gc_B
        if vectors is not None and self.settings.negatives == "matched":
            row_B, found_B = most_alike(*vectors, batch.apart(), batch.gc_B, batch.context.gc_B)
            other = mixed(own, other, row_B, found_B)
            gc_A, _ = gather_rows(batch.context.gc_B)
            other_gc_B = gc_A[row_B].where(found_B, other_gc_B)
        own_B = self.model.match_logits(reading, own)
        other_B = self.model.match_logits(reading, other)
        of_own_B = torch.ones_like(own_B, dtype=torch.bool)
        seen = {
            "match/logits": torch.cat([own_B, other_B]),
            "match/own": torch.cat([of_own_B, ~of_own_B]),
            "match/gap": torch.cat(
                [gc_gap(batch.gc_B, gc_B) for gc_B in (batch.context.gc_B, other_gc_B)]
            ),
        }
        return match_term(own_B, other_B), seen

    def _regions(self, batch: TorchRegionBatch) -> tuple[Named, Named]:
        """Terms of the context with regions hidden."""
        context = batch.context
        motif_BRT, access_BR = self.model.region_values(self.model.regions(context))
        hidden_BR, access_hidden_BR = asked_regions(context)
        seen = {
            "regions/predicted": motif_BRT,
            "regions/value": context.motif_BRT,
            "regions/asked": hidden_BR,
            "regions/seen": ~context.hidden_BR & ~context.pad_BR,
            "regions/access_predicted": access_BR[:, :, None],
            "regions/access_value": context.access_BR[:, :, None],
            "regions/access_asked": access_hidden_BR,
            "regions/access_seen": ~context.access_hidden_BR & ~context.pad_BR,
            "regions/offset": context.offset_BR,
        }
        return {"regions": regions_term(motif_BRT, access_BR, context)}, seen


def term_gradients(objective: MultimodalObjective, batch: TorchRegionBatch) -> dict[str, float]:
    """Norm of the gradient of each weighted term on what the terms share.

    `encoder/<term>` is on the sequence encoder and `regions/<term>` on that of regions; a term
    that does not reach one of them is not listed. The gradients that training collects stay as
    they are. Costs one backward pass per term. Of several devices it is that of the whole batch.
    """
    trunks = {
        "encoder": _trained(objective.model.encoder),
        "regions": _trained(objective.model.regions),
    }
    norms: dict[str, float] = {}
    # Tensors made under inference_mode, as a validation batch is, cannot be in a graph; what is
    # compiled frees its graph at the first backward pass.
    eager = torch.compiler.set_stance("force_eager")
    with torch.inference_mode(False), torch.enable_grad(), eager:
        terms, _ = objective.forward_terms(_copied(batch))
        shared = [weight for weights in trunks.values() for weight in weights]
        if not shared:
            return {}
        share = share_of_rows(batch.windows(), batch.target_BL.device)
        for name, term in terms.items():
            weighted = share * objective.weights[name] * term
            slopes = iter(
                torch.autograd.grad(weighted, shared, retain_graph=True, allow_unused=True)
            )
            for trunk, weights in trunks.items():
                parts = [slope for slope in (next(slopes) for _ in weights) if slope is not None]
                if parts:
                    slope = torch.cat([part.float().flatten() for part in parts])
                    mean = sum_over_devices(slope) / world_size()
                    norms[f"{trunk}/{name}"] = float(mean.norm())
    return norms


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in module.parameters() if weight.requires_grad]


def _copied(value: Any) -> Any:
    """The same batch in new tensors."""
    if isinstance(value, Tensor):
        return value.clone()
    if is_dataclass(value) and not isinstance(value, type):
        return type(value)(
            **{part.name: _copied(getattr(value, part.name)) for part in fields(value)}
        )
    return value


def _absent(term: str, what: str) -> CislensError:
    return CislensError(f"The batch {what}, which objective.{term} needs; set it to 0.")
