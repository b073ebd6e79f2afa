"""Training on measured profiles."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from cislens.files import atomic_path
from cislens.genome.codes import decode
from cislens.models.contract import Encoder
from cislens.models.profile import ProfileModel
from cislens.objectives.expert_terms import BalancedTerms
from cislens.objectives.profile import ProfileObjective
from cislens.recipes.profiles import Objective
from cislens.recipes.schema import TrainRecipe
from cislens.signal.datacard import FILE_NAME, DataCard
from cislens.signal.loader import ProfileBatch, ProfileLoader
from cislens.signal.store import ProfileStore
from cislens.training.course import recompute_activations
from cislens.training.data import SpeciesLabels, to_tensors
from cislens.training.experts import expert_use
from cislens.training.part_course import PartCourse
from cislens.training.start import start_of
from cislens.training.stream import Place, SplitPass, StepStream, shares
from cislens.training.watch import ExpertWatch

logger = logging.getLogger("cislens")


class ProfileCourse(PartCourse):
    """A profile store and a model with a head for each of its tracks.

    Args:
        encoder: what the model reads with; one of its own unless given.

    Raises:
        CislensError: as `start_of`, or if the encoder cannot recompute its activations.
    """

    title = "profile model"
    selection = "poisson_nll"
    headline = ("pearson_pooled",)
    finite = ("poisson",)

    def __init__(self, recipe: TrainRecipe, encoder: Encoder | None = None) -> None:
        assert isinstance(recipe.objective, Objective)
        training = recipe.training
        self.recipe = recipe
        self.store = ProfileStore.open(recipe.store, tracks=recipe.objective.tracks)
        self.start = start_of(recipe, self.store, encoder)
        self.model = self.start.model
        self.objective: ProfileObjective = _objective(recipe, self.store, self.model)
        self.loader: ProfileLoader = ProfileLoader(
            self.store, "train", training.batch_size, recipe.seed, training.shift,
            training.reverse_complement, batches=training.batches,
        )  # fmt: skip
        self.valid = ProfileLoader(
            self.store, "valid", training.batch_size, shift=0, reverse_complement=False
        )
        self.labels = SpeciesLabels.of(
            self.store, self.model.species, recipe.objective.shuffle_species, recipe.seed
        )
        self.origin = {"store": self.store.digest, "init_from": self.start.origin}
        self.frozen = self.start.frozen
        parts = (self.model.encoder, self.model.decoder)
        self.compiled = tuple(part for part in parts if part is not None)
        self.watches = (ExpertWatch(self.objective),)
        self.windows = training.batch_size
        self.bases = self.windows * self.store.length

    def stream(self, position: Callable[[], int], rank: int = 0, world: int = 1) -> StepStream:
        training = self.recipe.training
        converts = shares(partial(to_tensors, labels=self.labels), 0, 1, training.accumulate)
        read = partial(self.loader.epoch, share=(rank, world))
        return StepStream(
            self.loader, converts, training.steps, training.validate_every, position, read
        )

    def passes(self, rank: int = 0, world: int = 1) -> SplitPass:
        return SplitPass(self.valid, partial(to_tensors, labels=self.labels), rank, world)

    def blocks(self) -> Iterator[tuple[Place, Any]]:
        known = [
            (name, block)
            for name in self.store.species
            for block in self.store.windows(name)["block"]
        ]
        return self.passes().by_block(lambda batch: [known[index] for index in batch.index_B])

    def about(self, model: ProfileModel) -> str:
        return "Supervised genomic-profile model."

    def data(self) -> str:
        return _data(self.store)

    def leave(self, folder: Path, model: ProfileModel) -> dict[str, str]:
        with atomic_path(folder / "experts.parquet") as aside:
            expert_use(model, self.passes()).write_parquet(aside)
        return {FILE_NAME: DataCard(self.store.length, self.start.tracks).to_json()}

    def places(self, batch: ProfileBatch) -> list[str]:
        """Species and 1-based positions of its windows, as browsers take them."""
        places = [
            f"{species} {chrom}:{start + 1}-{start + self.store.length}"
            for species in self.store.species
            for chrom, start in self.store.windows(species).select("chrom", "start").iter_rows()
        ]
        return [places[index] for index in batch.index_B]

    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "store": {"path": str(self.store.path), "digest": self.store.digest}
        }
        if ancestor := self.start.ancestor:
            facts["ancestor"] = {
                "path": str(ancestor.folder), "digest": ancestor.digest,
                "freeze": self.recipe.freeze,
            }  # fmt: skip
        return facts

    def preview(self) -> dict[str, Any]:
        first = self.loader.batch(0, 0)
        return {
            "species": {name: len(self.store.tracks(name)) for name in self.store.species},
            "first_window": decode(first.codes_BL[0, :60]),
        }

    def say(self) -> None:
        terms = self.objective.experts
        if (
            self.recipe.training.batches == "alternate"
            and isinstance(terms, BalancedTerms)
            and len(terms.mass_XSE)
            and terms.weights["mutual_information"]
        ):
            logger.info(
                "training: with batches: alternate every batch is of one species, so "
                "objective.experts.mutual_information has no effect"
            )


def _objective(recipe: TrainRecipe, store: ProfileStore, model: ProfileModel) -> ProfileObjective:
    """The recipe's objective over the store's tracks, weighted as the store says."""
    if recipe.training.checkpointing:
        recompute_activations(model.encoder)
    tables = {name: store.tracks(name).frame for name in store.species}
    tracks = {name: table["id"].to_list() for name, table in tables.items()}
    weights = {name: table["weight"].to_list() for name, table in tables.items()}
    uneven = {name: given for name, given in weights.items() if set(given) != {1.0}}
    assert isinstance(recipe.objective, Objective)
    return ProfileObjective(model, recipe.objective, tracks, uneven)


def _data(store: ProfileStore) -> str:
    tracks = "\n".join(
        f"- {name}: {len(store.tracks(name))} tracks, "
        f"{store.windows(name).height} windows of {store.length} bp"
        for name in store.species
    )
    return f"Profile store `{store.digest}`, bins of {store.bin_size} bp:\n{tracks}"
