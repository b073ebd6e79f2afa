"""What a run starts from: a fresh model or a trained one, and which part of it is trained."""

from dataclasses import dataclass

import torch
from torch import nn

from cislens.errors import CislensError
from cislens.models.contract import Encoder
from cislens.models.mixture import share_encoder
from cislens.models.presets import HeadTracks, preset_config
from cislens.models.profile import ProfileModel, build_model
from cislens.randomness import seed_of
from cislens.recipes.profiles import Objective
from cislens.recipes.schema import TrainRecipe
from cislens.signal.store import ProfileStore
from cislens.signal.tracks import TrackTable
from cislens.training.ancestor import Ancestor, grow, load_ancestor, track_card


@dataclass(frozen=True)
class Start:
    """A model before its first step.

    Attributes:
        tracks: of all its heads, in their order; what the trained model is saved with.
        ancestor: where its weights come from, if they are not fresh.
        frozen: modules that stay in eval mode, so that neither dropout nor statistics touch them.
    """

    model: ProfileModel
    tracks: TrackTable
    ancestor: Ancestor | None = None
    frozen: tuple[nn.Module, ...] = ()

    @property
    def origin(self) -> str:
        """sha256 of the weights it started from; empty for fresh ones."""
        return "" if self.ancestor is None else self.ancestor.digest


def start_of(recipe: TrainRecipe, store: ProfileStore, encoder: Encoder | None = None) -> Start:
    """The model that the recipe trains, with heads for all of the store's tracks.

    Args:
        encoder: that a fresh model shares with others; one of its own unless given.

    Raises:
        CislensError: on an unknown preset or key, a folder that holds no model, an encoder of
            other species than the store's, bins that the store does not have, a logger that is
            not installed, labels that cannot be shuffled, or if nothing is left to train.
    """
    _refuse_one_species_to_shuffle(recipe, store)
    if recipe.init_from is None:
        fresh = _fresh(recipe, store)
        if encoder is not None:
            share_encoder(fresh, encoder)
        return Start(fresh, track_card(fresh, None, store))
    model, ancestor = load_ancestor(recipe.init_from, store, recipe.seed)
    grow(model, ancestor, store, recipe.seed)
    model.train()
    tracks = track_card(model, ancestor, store)
    return Start(model, tracks, ancestor, _freeze(model, recipe, ancestor))


def model_for(recipe: TrainRecipe, store: ProfileStore) -> ProfileModel:
    """The model of `start_of`."""
    return start_of(recipe, store).model


def _refuse_one_species_to_shuffle(recipe: TrainRecipe, store: ProfileStore) -> None:
    shuffled = isinstance(recipe.objective, Objective) and recipe.objective.shuffle_species
    if shuffled and len(store.species) < 2:
        raise CislensError(
            f"objective.shuffle_species (--without species): {store.path} has one species, "
            f"{store.species[0]}, so shuffling its labels changes nothing; give a store of two "
            "species or more."
        )


def _fresh(recipe: TrainRecipe, store: ProfileStore) -> ProfileModel:
    """The recipe's model with fresh weights (a function of the seed) and the store's tracks."""
    given = recipe.model
    changes = {"preset": given} if isinstance(given, str) else dict(given or {})
    if "preset" not in changes:
        raise CislensError("model: name a preset, e.g. {preset: space-plus-tiny, depth: 3}.")
    preset = changes.pop("preset")
    config = preset_config(preset, _heads(store), store.crop, **{"bins": store.bins, **changes})
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(recipe.seed, "weights"))
        model = build_model(config)
    if model.encoder.bin_size != store.bin_size:
        raise CislensError(
            f"model {preset} has bins of {model.encoder.bin_size} bp and {store.path} bins of "
            f"{store.bin_size} bp; build the store with the model's bin size."
        )
    return model


def _heads(store: ProfileStore) -> dict[str, HeadTracks]:
    found = {}
    for species in store.species:
        tracks = store.tracks(species)
        pairs = tracks.strand_permutation().tolist()
        ids, groups = (tracks.frame[name].to_list() for name in ("id", "group"))
        found[species] = HeadTracks(ids, groups, pairs)
    return found


def _freeze(model: ProfileModel, recipe: TrainRecipe, ancestor: Ancestor) -> tuple[nn.Module, ...]:
    """Take what the recipe freezes out of training; give the modules that stay in eval mode."""
    if recipe.freeze == "nothing":
        return ()
    if recipe.freeze == "encoder":
        still: nn.Module = model.encoder
        model.encoder.requires_grad_(False)
    else:
        still = model
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in ancestor.parameters)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise CislensError(
            f"freeze: {recipe.freeze} leaves nothing to train: the store adds no species and no "
            f"track to {ancestor.folder}; freeze: encoder trains its heads."
        )
    still.eval()
    return (still,)
