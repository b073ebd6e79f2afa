"""Self-distillation of encoders of DNA: hidden bases, and what the teacher makes of other views.

Dimensions: R view of a window (V views of B windows, one view after another), W local view, B
window, L base pair, N bin, D channel, K prototype.
"""

import copy
import logging
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from cislens.models.contract import Embedding, Encoder
from cislens.models.reading import Reading
from cislens.models.sequence import SequenceModel
from cislens.nn.gathering import share_of_loss
from cislens.objectives.collapse import SequenceMetrics
from cislens.objectives.contract import Losses, Objective
from cislens.objectives.distillation import teacher
from cislens.objectives.distillation.latent import (
    Predictor,
    latent_term,
    pairings,
    target_layers,
    target_width,
    targets_of,
)
from cislens.objectives.distillation.prototypes import ProjectionHead, Targets, pooled_term
from cislens.objectives.distillation.spread import contrast_term, koleo_term, may_overlap
from cislens.objectives.masked import views_term
from cislens.objectives.profile import one_hot
from cislens.objectives.sequence_batch import TorchSequenceBatch, Views
from cislens.objectives.watched import both_strands, of_bases, of_windows, vector
from cislens.recipes.sequence_terms import DISTILLATION_TERMS, DistillationTerms

log = logging.getLogger("cislens")

# Share of the steps after which the teacher's temperature stays.
WARMING = 0.1
# A batch that shows each window this often at most can use so many prototypes.
_USES = 4
_TAUGHT = {"latent", "pooled", "contrast"}
Named = dict[str, Tensor]


@dataclass(frozen=True)
class _Taught:
    """What the teacher makes of the whole global views."""

    targets_RND: Tensor | None
    valid_RN: Tensor
    pooled_RD: Tensor


class DistillationObjective(Objective):
    """The weighted sum of what is asked of a student, partly by its own running mean.

    Each step the student reads the global views once, with bases hidden, and the local ones once
    if the pooled term is in use; the teacher reads the global views whole, once for all terms and
    without a gradient. A term of weight 0 is not computed, nor is a pass that only such terms need.

    Terms: those of a weight above 0, before weighting, and `loss`, their weighted sum, in
    training with those of `ramp` growing. `masked` is in `objectives.masked`; the others are in
    the modules of this package. All are in fp32 and the same in training and evaluation, where
    statistics of several devices are those of one and the target of prototypes is no Sinkhorn's.

    Args:
        steps, batch_size: of the run, and the windows of a step on all devices.

    Attributes:
        teacher: a copy of the model that follows it.
        keeps_teacher: whether it is what is kept, and so what the metrics are of. A mixture keeps
            the model, whose encoder it trains for other objectives too.
        step: steps of the optimizer done.
    """

    model: SequenceModel
    step: Tensor
    keeps_teacher = True

    def __init__(
        self, model: SequenceModel, terms: DistillationTerms, steps: int, batch_size: int
    ) -> None:
        super().__init__()
        self.model = model
        self.settings = terms
        self.steps, self.batch_size = steps, batch_size
        self.weights = {
            name: float(getattr(terms, name)) for name in DISTILLATION_TERMS if getattr(terms, name)
        }
        dim = model.encoder.dim
        self.head: nn.Module = nn.Identity()
        self.targets: Targets | None = None
        if "pooled" in self.weights:
            self.head = ProjectionHead(dim, terms.prototypes)
            self.targets = Targets(terms.prototypes or dim, terms.target)
            _warn_of_prototypes(terms, batch_size)
        self.teacher = copy.deepcopy(model)
        self.teacher_head = copy.deepcopy(self.head)
        self.predictor: Predictor | None = None
        if "latent" in self.weights:
            self.predictor = Predictor(dim, target_width(model.encoder))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self._done: int | None = None
        for followed in (self.teacher, self.teacher_head):
            followed.requires_grad_(False)
        self.train(self.training)

    @property
    def kept(self) -> SequenceModel:
        return self.teacher if self.keeps_teacher else self.model

    def train(self, mode: bool = True) -> Self:
        """The teacher never leaves evaluation mode: no dropout, no statistics of its own."""
        super().train(mode)
        self.teacher.eval()
        self.teacher_head.eval()
        return self

    def metrics(self) -> SequenceMetrics:
        return SequenceMetrics()

    @property
    def done(self) -> int:
        """Steps done; read from the device once after a checkpoint was loaded."""
        if self._done is None:
            self._done = int(self.step)
        return self._done

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._done = None

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the teacher towards the student."""
        windows = self.steps * self.batch_size
        life = teacher.half_life(self.done, self.steps, windows, self.settings.half_life)
        kept = teacher.momentum(self.batch_size, life)
        teacher.follow(self.teacher, self.model, kept)
        teacher.follow(self.teacher_head, self.head, kept)
        done = self.done + 1
        self.step.fill_(done)
        self._done = done

    def loss(self, batch: TorchSequenceBatch) -> Losses:
        terms, seen = self.forward_terms(batch)
        ramp = self._ramp()
        weighted = [
            self.weights[name] * (1.0 if name == "masked" else ramp) * term
            for name, term in terms.items()
        ]
        total = torch.stack(weighted).sum()
        return Losses(
            total=share_of_loss(total, self, batch.windows()),
            terms={
                **{name: term.detach() for name, term in terms.items()},
                "loss": total.detach(),
            },
            predictions={name: value.detach() for name, value in seen.items()},
        )

    def forward_terms(self, batch: TorchSequenceBatch) -> tuple[Named, Named]:
        """The terms in the graph, before weighting, and in evaluation what the metrics need."""
        whole = batch.whole
        species_R = batch.species_B.repeat(len(whole.codes_VBL))
        reading = self.model.read(
            self._shown(whole.codes_VBL), whole.hidden_VBL.flatten(0, 1), species_R
        )
        terms: Named = {}
        seen: Named = {}
        if "masked" in self.weights:
            logits_RL4 = self.model.base_logits(reading)
            terms["masked"] = views_term(logits_RL4, whole, self.settings.repeat_weight)
            if not self.training:
                seen |= self._told(whole, species_R)
        taught = self._teach(whole, species_R) if _TAUGHT & set(self.weights) else None
        if self.predictor is not None and taught is not None:
            terms["latent"] = self._latent(batch, self.predictor(reading.embedding), taught)
        terms |= self._pooled_terms(batch, reading, taught, seen)
        if not self.training:
            seen |= self._watched(batch)
        return terms, seen

    def _teach(self, whole: Views, species_R: Tensor) -> _Taught:
        """The teacher's one pass, over the whole views."""
        encoder = self.teacher.encoder
        wanted = set(target_layers(encoder)) if "latent" in self.weights else set()
        chosen: list[Embedding] = []
        last: Embedding | None = None
        with torch.no_grad():
            x_R4L = one_hot(whole.target_VBL.flatten(0, 1))
            for name, layer in zip(encoder.layers, encoder.hidden(x_R4L, species_R), strict=True):
                chosen += [layer] if name in wanted else []
                last = layer
            assert last is not None
            targets_RND = targets_of(chosen) if chosen else None
            return _Taught(targets_RND, last.valid_BN, vector(last))

    def _latent(self, batch: TorchSequenceBatch, told_RND: Tensor, taught: _Taught) -> Tensor:
        assert taught.targets_RND is not None
        return latent_term(
            told_RND,
            pairings(
                batch.whole,
                taught.targets_RND,
                taught.valid_RN,
                batch.parent_BP.shape[1],
                self.model.encoder.bin_size,
                by_strand=_by_strand(self.model.encoder),
            ),
        )

    def _pooled_terms(
        self, batch: TorchSequenceBatch, reading: Reading, taught: _Taught | None, seen: Named
    ) -> Named:
        """Terms of the vectors of whole views."""
        views = len(batch.whole.codes_VBL)
        pooled_RD = vector(reading.embedding)
        pooled_VBD = _by_view(pooled_RD, views)
        terms: Named = {}
        if self.targets is not None and taught is not None:
            student_SBK = self._student_logits(batch, pooled_RD)
            with torch.no_grad():
                logits_RK = self.teacher_head(taught.pooled_RD)
                share_RK = self.targets(logits_RK, self.teacher_temperature)
            share_VBK = _by_view(share_RK, views)
            terms["pooled"] = pooled_term(student_SBK, share_VBK, self.settings.temperature)
            seen["teacher"] = share_RK
        if "koleo" in self.weights:
            parts = [koleo_term(pooled_BD) for pooled_BD in pooled_VBD]
            terms["koleo"] = torch.stack(parts).mean()
        if "contrast" in self.weights and taught is not None:
            taught_VBD = _by_view(taught.pooled_RD, views)
            near_BA = may_overlap(batch.chrom_B, batch.start_B, batch.parent_BP.shape[1])
            parts = [
                contrast_term(pooled_VBD[at], taught_VBD[other], near_BA, self.settings.temperature)
                for at in range(views)
                for other in range(views)
                if at != other
            ]
            terms["contrast"] = torch.stack(parts).mean()
        return terms

    def _student_logits(self, batch: TorchSequenceBatch, pooled_RD: Tensor) -> Tensor:
        """(V + W, B, K): of the global views, then of the local ones."""
        count = len(batch.whole.codes_VBL)
        if batch.local is not None:
            views = len(batch.local.codes_VBL)
            count += views
            local = self.model.encoder(
                self._shown(batch.local.codes_VBL), batch.species_B.repeat(views)
            )
            pooled_RD = torch.cat([pooled_RD, vector(local)])
        logits_RK: Tensor = self.head(pooled_RD)
        return _by_view(logits_RK, count)

    def _shown(self, codes_VBL: Tensor) -> Tensor:
        """What the student reads, (R, 4, L): one-hot, in training with noise on called bases."""
        codes_RL = codes_VBL.flatten(0, 1)
        x_R4L = one_hot(codes_RL)
        if not (self.settings.noise and self.training):
            return x_R4L
        # N stays zeros: padding must be known as such.
        noise_R4L = self.settings.noise * torch.randn_like(x_R4L)
        return x_R4L + noise_R4L.where((codes_RL < 4).unsqueeze(1), 0.0)

    def _told(self, whole: Views, species_R: Tensor) -> Named:
        """What the model that is kept tells of the hidden bases."""
        shown_R4L, hidden_RL = self._shown(whole.codes_VBL), whole.hidden_VBL.flatten(0, 1)
        reading = self.kept.read(shown_R4L, hidden_RL, species_R)
        return of_bases(self.kept.base_logits(reading), whole)

    def _watched(self, batch: TorchSequenceBatch) -> Named:
        """What is looked at in the model that is kept, and how far the student is from it."""
        other = self.model if self.keeps_teacher else self.teacher
        pooled_2BD = both_strands(self.kept.encoder, batch)
        seen = of_windows(pooled_2BD, batch)
        other_BD = vector(other.encoder(one_hot(batch.parent_BP), batch.species_B)).float()
        seen["agreement"] = torch.cosine_similarity(other_BD, pooled_2BD[0], dim=1)
        seen["distance"] = teacher.distance(self.teacher, self.model)
        return seen

    @property
    def teacher_temperature(self) -> float:
        """At the present step: linear over the first tenth of the steps, then constant."""
        first, last = self.settings.teacher_temperature
        return first + (last - first) * min(1.0, self.done / max(1.0, WARMING * self.steps))

    def _ramp(self) -> float:
        """Factor of the distilled terms; 1 in evaluation, so that validations can be compared."""
        if not self.training:
            return 1.0
        return min(1.0, (self.done + 1) / max(1.0, self.settings.ramp * self.steps))


def _by_strand(encoder: Encoder) -> bool:
    """Whether either half of the channels is of one strand."""
    return bool(getattr(getattr(encoder, "config", None), "rc_equivariant", False))


def _by_view(value_RX: Tensor, views: int) -> Tensor:
    return value_RX.view(views, -1, *value_RX.shape[1:])


def _warn_of_prototypes(terms: DistillationTerms, batch_size: int) -> None:
    most = _USES * batch_size * terms.views.count
    if terms.prototypes > most:
        log.warning(
            "%d prototypes are more than batches of %d windows with %d global views can use; "
            "set objective.prototypes to %d or less, or training.batch_size higher.",
            terms.prototypes,
            batch_size,
            terms.views.count,
            most,
        )
