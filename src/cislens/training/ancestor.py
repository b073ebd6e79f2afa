"""A trained model that another one starts from, and what a store adds to it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from cislens.errors import CislensError
from cislens.files import file_digest, require_file
from cislens.models.decoders.contract import HeadConfig
from cislens.models.mixture import part_of_kind, share_encoder
from cislens.models.profile import ProfileModel, ProfileModelConfig
from cislens.models.saving import TrainedModel, load_model
from cislens.randomness import seed_of
from cislens.signal.datacard import FILE_NAME, DataCard
from cislens.signal.store import ProfileStore
from cislens.signal.tracks import Track, TrackTable, track_table

_SCALING = ("scale", "sum_stat", "clip", "clip_mode")


@dataclass(frozen=True)
class Ancestor:
    """Where a model comes from.

    Attributes:
        folder: its model folder.
        digest: sha256 of its weights file.
        parameters: names of its parameters.
        tracks: id -> track of each of its species, as far as its data card tells.
    """

    folder: Path
    digest: str
    parameters: frozenset[str]
    tracks: Mapping[str, Mapping[str, Track]]


def load_ancestor(path: Path, store: ProfileStore, seed: int) -> tuple[ProfileModel, Ancestor]:
    """The model of a run folder or a model folder, on the CPU.

    Of a model that predicts no profiles the encoder is taken, under fresh heads for the store.

    Raises:
        CislensError: if it is neither, the run is not finished, the model is damaged, or its
            encoder tells other species apart than the store has.
    """
    folder = model_folder(require_file(path, "init_from"))
    found = load_model(folder)
    digest = file_digest(folder / "model.safetensors")
    model = part_of_kind(found, ProfileModel)
    if model is None:
        names = frozenset(f"encoder.{name}" for name, _ in found.encoder.named_parameters())
        return _under_heads(found, folder, store, seed), Ancestor(folder, digest, names, {})
    tracks: dict[str, dict[str, Track]] = {name: {} for name in model.species}
    if (folder / FILE_NAME).exists():
        for track in DataCard.read(folder).tracks.rows():
            tracks.setdefault(track.species, {})[track.id] = track
    names = frozenset(name for name, _ in model.named_parameters())
    return model, Ancestor(folder, digest, names, tracks)


def _under_heads(found: TrainedModel, folder: Path, store: ProfileStore, seed: int) -> ProfileModel:
    """A profile model of the store's tracks around the encoder of another kind of model."""
    known = found.encoder.species
    if known and set(known) != set(store.species):
        raise CislensError(
            f"the encoder of {folder} tells {', '.join(known)} apart, and {store.path} has "
            f"{', '.join(store.species)}; they must be the same species."
        )
    heads = []
    for name in known or store.species:
        ids, groups, pairs = _head_of(store.tracks(name))
        heads.append(
            HeadConfig(
                species=name, tracks=tuple(ids), groups=tuple(groups), strand_pairs=tuple(pairs)
            )
        )
    shape: Any = getattr(found.encoder, "config")  # noqa: B009 - of every class of encoder
    config = ProfileModelConfig(encoder=shape, heads=tuple(heads), crop=store.crop)
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(seed, "weights"))
        model = ProfileModel(config)
    share_encoder(model, found.encoder)
    return model


def grow(model: ProfileModel, ancestor: Ancestor, store: ProfileStore, seed: int) -> None:
    """Append the species and tracks that the store has and the model has not.

    The weights of what is appended are a function of the seed; everything else stays as it is.
    Species and tracks of the model that the store does not have stay in the model.

    Raises:
        CislensError: if the store has bins of another size, or another number of them than the
            decoder is made for, or scales a track of the model otherwise.
    """
    if model.encoder.bin_size != store.bin_size:
        raise CislensError(
            f"the model {ancestor.folder} has bins of {model.encoder.bin_size} bp and {store.path} "
            f"bins of {store.bin_size} bp; build the store with the model's bin size."
        )
    made_for = None if model.decoder is None else model.decoder.bins
    if made_for is not None and made_for != store.bins:
        raise CislensError(
            f"the decoder of {ancestor.folder} is made for {made_for} central bins and windows of "
            f"{store.path} have {store.bins}; build the store with a length and a crop that leave "
            f"{made_for}."
        )
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(seed, "weights"))
        for species in store.species:
            tracks = store.tracks(species)
            _refuse_other_scaling(ancestor, tracks)
            known = model.config.tracks.get(species)
            if known is None:
                model.add_species(species, *_head_of(tracks))
            elif new := [track for track in tracks.rows() if track.id not in known]:
                model.add_head(species, *_head_of(_alone(new)))
    model.config = model.config.model_copy(update={"crop": store.crop})


def track_card(model: ProfileModel, ancestor: Ancestor | None, store: ProfileStore) -> TrackTable:
    """The tracks of a trained model in head order: the store's, and what an ancestor had before.

    A track that names another strand which does not name it back, because the store has only
    one of the two or pairs it otherwise, is single.

    Raises:
        CislensError: if two species have a track of one id.
    """
    measured = {name: {t.id: t for t in store.tracks(name).rows()} for name in store.species}
    rows = []
    for head in model.config.heads:
        before = {} if ancestor is None else ancestor.tracks.get(head.species, {})
        known = {**before, **measured.get(head.species, {})}
        rows += [
            known.get(name) or Track(name, "", head.species, group=group)
            for name, group in zip(head.tracks, head.track_groups, strict=True)
        ]
    owner: dict[str, str] = {}
    for track in rows:
        if owner.setdefault(track.id, track.species) != track.species:
            raise CislensError(
                f"{owner[track.id]} and {track.species} would both have a track {track.id!r} in "
                f"the model trained on {store.path}; give one of them another id."
            )
    pair_of = {track.id: track.strand_pair for track in rows}
    return track_table(
        track if pair_of.get(track.strand_pair) == track.id else replace(track, strand_pair="")
        for track in rows
    )


def model_folder(path: Path, what: str = "init_from") -> Path:
    """The model folder of a run folder, or `path` if it is one; `what` names it in the error.

    Raises:
        CislensError: if it is neither, or the run is not finished.
    """
    if path.is_file():
        raise CislensError(
            f"{what} {path} is a file; name a run folder of `cislens train` or a model folder."
        )
    if (path / "model" / "config.json").exists():
        return path / "model"
    if (path / "config.json").exists():
        return path
    if (path / "recipe.yaml").exists():
        raise CislensError(
            f"{what} {path} holds a run without a model: it did not finish. Train it to its end "
            "first; the same `cislens train` command resumes it."
        )
    raise CislensError(f"{what} {path} is neither a run folder nor a model folder.")


def _head_of(tracks: TrackTable) -> tuple[list[str], list[str], list[int]]:
    frame = tracks.frame
    return frame["id"].to_list(), frame["group"].to_list(), tracks.strand_permutation().tolist()


def _alone(tracks: list[Track]) -> TrackTable:
    """New tracks of a known species; one whose other strand has a head already counts as single."""
    ids = {track.id for track in tracks}
    return track_table(
        replace(track, strand_pair="")
        if track.strand_pair and track.strand_pair not in ids
        else track
        for track in tracks
    )


def _refuse_other_scaling(ancestor: Ancestor, tracks: TrackTable) -> None:
    for track in tracks.rows():
        before = ancestor.tracks.get(track.species, {}).get(track.id)
        for name in _SCALING if before is not None else ():
            then, now = getattr(before, name), getattr(track, name)
            if then != now:
                raise CislensError(
                    f"{track.species} track {track.id!r} has {name} {now} in the store, and the "
                    f"model {ancestor.folder} was trained with {then}; build the store with "
                    f"{then}, or give the track another id, so that it gets a head of its own."
                )
