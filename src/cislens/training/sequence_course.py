"""Training on sequence alone: telling hidden bases, and self-distillation."""

import logging
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from cislens.errors import CislensError
from cislens.files import file_digest, require_file
from cislens.genome.codes import decode
from cislens.models.contract import Encoder
from cislens.models.limits import require_room
from cislens.models.mixture import share_encoder
from cislens.models.presets import encoder_config
from cislens.models.saving import load_model
from cislens.models.sequence import SequenceModel, SequenceModelConfig
from cislens.models.sequence_card import about
from cislens.objectives.distillation.objective import DistillationObjective
from cislens.objectives.masked import MaskedObjective
from cislens.objectives.sequence_batch import to_tensors
from cislens.randomness import seed_of
from cislens.recipes.schema import TrainRecipe
from cislens.recipes.sequence_terms import DistillationTerms, MaskedTerms, Views
from cislens.sequence.batch import SequenceBatch
from cislens.sequence.loader import SequenceLoader
from cislens.sequence.markov import order2_nats
from cislens.sequence.store import SequenceStore
from cislens.training.ancestor import model_folder
from cislens.training.collapse import CollapseGuard
from cislens.training.course import recompute_activations
from cislens.training.finite import places_of
from cislens.training.part_course import PartCourse
from cislens.training.stream import Place, SplitPass, StepStream, shares

logger = logging.getLogger("cislens")


class SequenceCourse(PartCourse):
    """A sequence store and a model that tells its hidden bases, or follows its own mean.

    Args:
        encoder: to be trained in place of the recipe's own.

    Raises:
        CislensError: if the recipe does not fit the store.
    """

    title = "sequence model"

    def __init__(self, recipe: TrainRecipe, encoder: Encoder | None = None) -> None:
        assert isinstance(recipe.objective, MaskedTerms | DistillationTerms)
        self.recipe = recipe
        self.terms = recipe.objective
        self.store = SequenceStore.open(recipe.store)
        self.ancestor = None if recipe.init_from is None else _ancestor(recipe.init_from)
        self.model = self._model(encoder)
        if recipe.training.checkpointing:
            recompute_activations(self.model.encoder)
        self.views = _views(self.terms)
        self.objective = self._objective()
        self.loader, self.valid = self._part("train"), self._part("valid")
        asks = isinstance(self.terms, MaskedTerms) or self.terms.masked > 0
        self.selection = "masked/nats" if asks else None
        self.finite = ("loss",)
        self.headline = ("masked/accuracy",) * asks + ("rankme_share", "gc_r2")
        self.averaged = isinstance(self.terms, MaskedTerms)
        weights = "" if self.ancestor is None else self.ancestor["digest"]
        self.origin = {"store": self.store.digest, "init_from": weights}
        self.frozen = (self.model.encoder,) if recipe.freeze == "encoder" else ()
        self.compiled = tuple(getattr(self.model.encoder, "blocks", ()))
        read = self.views.count * self.views.length
        read += self.views.local_count * self.views.local_length
        self.windows = recipe.training.batch_size
        self.bases = self.windows * read
        known = list(self.model.species)
        self.species_S = np.array(
            [known.index(name) if name in known else -1 for name in self.store.species], np.int64
        )

    def stream(self, position: Callable[[], int], rank: int = 0, world: int = 1) -> StepStream:
        training = self.recipe.training
        converts = shares(
            partial(to_tensors, species_S=self.species_S), rank, world, training.accumulate
        )
        return StepStream(self.loader, converts, training.steps, training.validate_every, position)

    def passes(self, rank: int = 0, world: int = 1) -> SplitPass:
        return SplitPass(self.valid, partial(to_tensors, species_S=self.species_S), rank, world)

    def blocks(self) -> Iterator[tuple[Place, Any]]:
        return self.passes().by_block(self._blocks_of)

    def guards(self, folder: Path) -> list[Any]:
        return [CollapseGuard(folder, self.recipe.training, self.terms.on_collapse, self.markov)]

    @cached_property
    def markov(self) -> float:
        """Nats a base of an order-2 Markov model of the training part, on the validation part."""
        parents = [batch.parent_BP for batch in self.valid.epoch(0)]
        return order2_nats(self.store, np.concatenate(parents))

    def about(self, model: SequenceModel) -> str:
        return about(model.config)

    def data(self) -> str:
        return _data(self.store)

    def places(self, batch: SequenceBatch) -> list[str]:
        return places_of(self.store, batch)

    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "store": {"path": str(self.store.path), "digest": self.store.digest},
            "markov_nats": self.markov,
        }
        if self.ancestor is not None:
            facts["ancestor"] = {**self.ancestor, "freeze": self.recipe.freeze}
        return facts

    def preview(self) -> dict[str, Any]:
        first = self.loader.batch(0, 0)
        return {
            "windows": len(self.loader) * self.recipe.training.batch_size,
            "held_out": self.terms.held_out,
            "first_window": decode(first.parent_BP[0, :60]),
            "first_view": decode(first.whole.codes_VBL[0, 0, :60]),
        }

    def say(self) -> None:
        if self.recipe.training.batches == "alternate":
            logger.info("training: windows are drawn from all species: batches has no effect")

    @cached_property
    def _runs(self) -> dict[Any, tuple[Any, Any]]:
        """First starts and blocks of the runs of windows, by species and chromosome."""
        by = self.store.starts.sort("first").partition_by("species", "chrom", as_dict=True)
        return {k: (runs["first"].to_numpy(), runs["block"].to_numpy()) for k, runs in by.items()}

    def _blocks_of(self, batch: SequenceBatch) -> list[Place]:
        """Where the split has dealt the windows of a batch."""
        found = []
        for index, chrom, start in zip(batch.species_B, batch.chrom_B, batch.start_B, strict=True):
            species = self.store.species[index]
            first, block = self._runs[species, self.store.chroms(species)[chrom]]
            found.append((species, int(block[np.searchsorted(first, start, "right") - 1])))
        return found

    def _model(self, encoder: Encoder | None) -> SequenceModel:
        """The model with fresh weights, a function of the seed, or with those of the ancestor."""
        recipe = self.recipe
        with torch.random.fork_rng():
            torch.manual_seed(seed_of(recipe.seed, "weights"))
            if self.ancestor is None:
                config = _config(recipe, self.store)
                require_room("the recipe's model", lambda: SequenceModel(config))
                return _around(encoder, SequenceModel(config))
            found = load_model(self.ancestor["path"])
            if not isinstance(found, SequenceModel):
                fresh = SequenceModel(SequenceModelConfig(encoder=found.config.encoder))
                found = _around(found.encoder, fresh)
        if recipe.freeze == "old":
            raise CislensError(
                "freeze: old would leave nothing to train: a sequence store adds nothing to a "
                "model. freeze: encoder trains the head of hidden bases alone."
            )
        found.encoder.requires_grad_(recipe.freeze != "encoder")
        return found.train()

    def _objective(self) -> MaskedObjective | DistillationObjective:
        if isinstance(self.terms, MaskedTerms):
            return MaskedObjective(self.model, self.terms)
        steps, batch_size = self.recipe.training.steps, self.recipe.training.batch_size
        with torch.random.fork_rng():
            torch.manual_seed(seed_of(self.recipe.seed, "distillation"))
            return DistillationObjective(self.model, self.terms, steps, batch_size)

    def _part(self, part: Literal["train", "valid"]) -> SequenceLoader:
        training = self.recipe.training
        return SequenceLoader(
            self.store, part, training.batch_size, self.recipe.seed, views=self.views,
            masks=self.terms.masks, held_out=self.terms.held_out,
            kmer=getattr(self.model.config.encoder, "k", 1),
        )  # fmt: skip


def _around(encoder: Encoder | None, model: SequenceModel) -> SequenceModel:
    """The model with another encoder of the same shape, if there is one."""
    if encoder is not None:
        share_encoder(model, encoder)
    return model


def _views(terms: MaskedTerms | DistillationTerms) -> Views:
    if isinstance(terms, DistillationTerms):
        return terms.views
    return Views(**terms.view.model_dump(), count=1, local_count=0)


def _ancestor(given: Path) -> dict[str, str]:
    """Model folder of a run or model folder, and sha256 of its weights."""
    folder = model_folder(require_file(given, "init_from"))
    return {"path": str(folder), "digest": file_digest(folder / "model.safetensors")}


def _config(recipe: TrainRecipe, store: SequenceStore) -> SequenceModelConfig:
    given = recipe.model
    changes: dict[str, Any] = {"preset": given} if isinstance(given, str) else dict(given or {})
    if "preset" not in changes:
        raise CislensError("model: name a preset, e.g. {preset: findna-plus-tiny}.")
    preset = changes.pop("preset")
    return SequenceModelConfig(encoder=encoder_config(preset, store.species, **changes))


def _data(store: SequenceStore) -> str:
    parts = "\n".join(
        f"- {name}: {store.assembly(name)}, {len(store.chroms(name))} chromosomes"
        for name in store.species
    )
    return f"Sequence store `{store.digest}`, windows of {store.window:,} bp:\n{parts}"
