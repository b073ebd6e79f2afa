"""Training on regions: sequence together with what is open around it in a cell type."""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from cislens.errors import CislensError
from cislens.files import file_digest, require_file, write_atomic
from cislens.genome.codes import decode
from cislens.models.contract import Encoder
from cislens.models.genebert.card import about
from cislens.models.genebert.contract import RegionContext
from cislens.models.genebert.multimodal import MultimodalModel
from cislens.models.genebert.presets import ENCODERS, multimodal_config
from cislens.models.limits import require_room
from cislens.models.mixture import part_of_kind, share_encoder
from cislens.models.presets import PRESETS, encoder_config
from cislens.models.saving import load_model
from cislens.motifs import batch as motif_batch
from cislens.motifs.batch import RegionBatch
from cislens.motifs.loader import RegionLoader
from cislens.motifs.shortcuts import require_clean, shortcut_audit
from cislens.motifs.store import RegionStore
from cislens.objectives.multimodal.batch import TorchRegionBatch
from cislens.objectives.multimodal.objective import MultimodalObjective
from cislens.randomness import seed_of
from cislens.recipes.multimodal import MultimodalTerms
from cislens.recipes.schema import TrainRecipe
from cislens.training.ancestor import model_folder
from cislens.training.course import recompute_activations
from cislens.training.gradients import GradientWatch
from cislens.training.part_course import PartCourse
from cislens.training.stream import Place, SplitPass, StepStream, shares

logger = logging.getLogger("cislens")

_AUDIT_BATCHES = 32


class MultimodalCourse(PartCourse):
    """A region store and a model that reads its sequences and its matrices.

    Args:
        encoder: what the model reads sequences with; one of its own unless given.

    Raises:
        CislensError: if the preset or the ancestor does not fit the store, or if the pairs that
            the model is to tell apart can be told by GC content.
    """

    title = "multi-modal model"
    selection = "loss"

    def __init__(self, recipe: TrainRecipe, encoder: Encoder | None = None) -> None:
        assert isinstance(recipe.objective, MultimodalTerms)
        self.recipe = recipe
        self.terms = recipe.objective
        self.store = RegionStore.open(recipe.store)
        self.ancestor = None if recipe.init_from is None else _ancestor(recipe.init_from)
        self.model = self._continued() if self.ancestor else _fresh(recipe, self.terms, self.store)
        if encoder is not None:
            share_encoder(self.model, encoder)
        if recipe.training.checkpointing:
            recompute_activations(self.model.encoder)
        self.objective: MultimodalObjective = MultimodalObjective(self.model, self.terms)
        self.loader = self._part("train")
        self.valid = self._part("valid")
        self.headline = tuple(
            name
            for name, weight in (
                ("masked/accuracy", self.terms.masked),
                ("contrast/recall_at_1", self.terms.contrast),
                ("match/auroc", self.terms.match),
            )
            if weight
        )
        weights = "" if self.ancestor is None else self.ancestor["digest"]
        self.origin = {"store": self.store.digest, "init_from": weights}
        self.frozen = (self.model.encoder,) if recipe.freeze == "encoder" else ()
        self.compiled = tuple(getattr(self.model.encoder, "blocks", ()))
        self.watches = (GradientWatch(self.objective, recipe.training.validate_every),)
        self.windows = recipe.training.batch_size
        self.bases = self.windows * self.store.width
        self.audit = shortcut_audit(self._part("train"), self._part("valid"), _AUDIT_BATCHES)
        require_clean(self.audit, refuse=self.terms.negatives == "matched")

    def _continued(self) -> MultimodalModel:
        """The ancestor's model, if it reads what the store and the recipe give."""
        assert self.ancestor is not None
        folder, freeze = self.ancestor["path"], self.recipe.freeze
        loaded = load_model(folder)
        model = part_of_kind(loaded, MultimodalModel)
        if model is None:
            raise CislensError(
                f"init_from {folder} holds a {type(loaded).__name__}, which reads no regions; "
                "train it further with a profile objective on a profile store."
            )
        self.store.require_same(model.config.constants, model.config.motifs)
        if model.config.context != self.terms.context:
            raise CislensError(
                f"objective.context is {self.terms.context}, and the model {folder} reads contexts "
                f"of {model.config.context} regions; set it to {model.config.context}."
            )
        if freeze == "old":
            raise CislensError(
                "freeze: old would leave nothing to train: a region store adds nothing to a "
                "multi-modal model. freeze: encoder trains everything but the sequence encoder."
            )
        model.encoder.requires_grad_(freeze != "encoder")
        return model.train()

    def _part(self, part: Literal["train", "valid"]) -> RegionLoader:
        training = self.recipe.training
        return RegionLoader(
            self.store, part, training.batch_size, self.recipe.seed, terms=self.terms,
            shift=training.shift, reverse_complement=training.reverse_complement,
            kmer=getattr(self.model.config.encoder, "k", 1),
        )  # fmt: skip

    def stream(self, position: Callable[[], int], rank: int = 0, world: int = 1) -> StepStream:
        training = self.recipe.training
        converts = shares(to_tensors, rank, world, training.accumulate)
        return StepStream(self.loader, converts, training.steps, training.validate_every, position)

    def passes(self, rank: int = 0, world: int = 1) -> SplitPass:
        return SplitPass(self.valid, to_tensors, rank, world)

    def blocks(self) -> Iterator[tuple[Place, Any]]:
        stretch_R = self.store.stretches()

        def places(batch: RegionBatch) -> list[Place]:
            return [(self.store.species, int(stretch)) for stretch in stretch_R[batch.row_B]]

        return self.passes().by_block(places)

    def about(self, model: MultimodalModel) -> str:
        return about(model.config)

    def data(self) -> str:
        return _data(self.store)

    def leave(self, folder: Path, model: MultimodalModel) -> dict[str, str]:
        write_atomic(folder / "shortcuts.tsv", self.audit.write_csv(separator="\t"))
        return {}

    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "store": {"path": str(self.store.path), "digest": self.store.digest},
            "shortcuts": self.audit.to_dicts(),
        }
        if self.ancestor is not None:
            facts["ancestor"] = {**self.ancestor, "freeze": self.recipe.freeze}
        return facts

    def say(self) -> None:
        if self.recipe.training.batches == "alternate":
            logger.info("training: regions are of one genome, so batches: alternate has no effect")

    def preview(self) -> dict[str, Any]:
        first = self.loader.batch(0, 0)
        return {
            "cells": self.store.cells.group_by("split", maintain_order=True)
            .agg("cell_id").to_dicts(),
            "regions": self.store.regions["split"].value_counts(sort=True).to_dicts(),
            "motifs": self.store.motifs.height,
            "first_window": decode(first.target_BL[0, :60]),
        }  # fmt: skip


def to_tensors(
    batch: RegionBatch, rank: int = 0, world: int = 1, mine: npt.NDArray[np.bool_] | None = None
) -> TorchRegionBatch | None:
    """The batch as CPU tensors; of `world` devices, the share of device `rank`, if it has one.

    Args:
        mine: the rows that are taken, where it is not every `world`-th.
    """
    if mine is None:
        mine = np.arange(len(batch.row_B)) % world == rank
    if not mine.any():
        return None
    whole = world == 1 and mine.all()

    def share(part: Any) -> Any:
        """The rows of this device, of arrays and of the contexts made of them."""
        if part is None or whole:
            return part
        if isinstance(part, motif_batch.RegionContext):
            return replace(part, **{f.name: share(getattr(part, f.name)) for f in fields(part)})
        return part[mine]

    tensors: dict[str, Any] = {}
    for each in fields(batch):
        part = share(getattr(batch, each.name))
        if isinstance(part, motif_batch.RegionContext):
            tensors[each.name] = RegionContext.from_numpy(part)
        elif part is not None:
            tensors[each.name] = torch.from_numpy(np.ascontiguousarray(part))
    if not whole:
        tensors["place_B"] = torch.from_numpy(mine.nonzero()[0])
    return TorchRegionBatch(**{"next_B": None, "other": None, **tensors})


def _ancestor(given: Path) -> dict[str, str]:
    """Model folder of a run or model folder, and sha256 of its weights."""
    folder = model_folder(require_file(given, "init_from"))
    return {"path": str(folder), "digest": file_digest(folder / "model.safetensors")}


def _fresh(recipe: TrainRecipe, terms: MultimodalTerms, store: RegionStore) -> MultimodalModel:
    """The recipe's model for the store; its weights are a function of the seed."""
    given = recipe.model
    changes: dict[str, Any] = {"preset": given} if isinstance(given, str) else dict(given or {})
    if "preset" not in changes:
        raise CislensError("model: name a preset, e.g. {preset: genebert-plus-tiny}.")
    preset = changes.pop("preset")
    if preset in PRESETS.keys() - ENCODERS.keys():
        own = encoder_config(preset, (store.species,), **changes.get("encoder", {}))
        changes["encoder"] = own.model_dump()
    config = multimodal_config(
        preset, store.motif_ids, store.width, terms.context,
        store.expression is not None, store.constants_digest, **changes,
    )  # fmt: skip
    require_room(f"model {preset}", lambda: MultimodalModel(config))
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(recipe.seed, "weights"))
        return MultimodalModel(config)


def _data(store: RegionStore) -> str:
    parts: Mapping[str, int] = dict(store.regions["split"].value_counts().iter_rows())
    cells = ", ".join(
        f"{name} ({split})" for name, split in store.cells.select("cell_id", "split").iter_rows()
    )
    return (
        f"Region store `{store.digest}`, {store.width} bp: "
        f"{', '.join(f'{count:,} {part}' for part, count in sorted(parts.items()))} regions, "
        f"{store.motifs.height} motifs.\nCell types: {cells}."
    )
