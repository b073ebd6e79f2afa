"""What a sequence store will hold, with every check of its inputs, before it is written."""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from cislens.errors import CislensError, nearest
from cislens.files import file_digest, require_file
from cislens.genome.chromosomes import match_names
from cislens.genome.haplotypes import Haplotypes, read_haplotypes
from cislens.genome.intervals import Spans, read_intervals
from cislens.genome.reference import Genome, open_genome
from cislens.recipes.sequence import SequenceRecipe
from cislens.sequence.mappable import Limits, valid_starts
from cislens.sequence.parts import (
    PARTS,
    part_tiles,
    store_digest,
    taken_parts,
    tile_genome,
)
from cislens.sequence.probe import Probe, read_probe
from cislens.sequence.store import SCHEMA_VERSION
from cislens.signal.plan import SPECIES_NAME

_FILES = ("blacklist", "haplotypes", "probe")


@dataclass(frozen=True)
class SpeciesPlan:
    """The part of one species.

    Attributes:
        tiles: `chrom, start, end, split, block`, in genomic order.
        starts: `chrom, first, last, split, block`; see `SequenceStore.starts`.
        left_out: chromosomes of which every base is N.
    """

    genome: Genome
    tiles: pl.DataFrame
    starts: pl.DataFrame
    left_out: list[str]
    probe: Probe | None
    haplotypes: Haplotypes | None

    @property
    def bases(self) -> int:
        """bp of all chromosomes."""
        return sum(self.genome.chrom_sizes.values())

    @property
    def bytes(self) -> int:
        """Size on disk but for tables: a byte a base, a bit a haplotype and variant."""
        return self.bases + (self.haplotypes.carried_VW.nbytes if self.haplotypes else 0)

    def describe(self) -> dict[str, Any]:
        """Counts, ready for JSON."""
        starts = self.starts.group_by("split").agg((pl.col("last") - pl.col("first")).sum())
        tiles = self.tiles.group_by("split").agg((pl.col("end") - pl.col("start")).sum())
        return {
            "assembly": self.genome.name,
            "chromosomes": len(self.genome.chrom_sizes),
            "bases": self.bases,
            "all_n": self.left_out,
            "tiles": self.tiles.height,
            "tile_bases": dict(sorted(tiles.iter_rows())),
            "starts": dict(sorted(starts.iter_rows())),
            "probe": 0 if self.probe is None else len(self.probe.middle_P),
            "haplotypes": 0 if self.haplotypes is None else self.haplotypes.count,
            "variants": 0 if self.haplotypes is None else self.haplotypes.variants.height,
        }


@dataclass(frozen=True)
class SequencePlan:
    """Everything a build does, resolved; `describe` is what a dry run prints."""

    recipe: SequenceRecipe
    species: dict[str, SpeciesPlan]

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """Name and sha256 of every file that the recipe names."""
        return inputs(self.recipe)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The recipe without its paths."""
        return settings(self.recipe)

    @property
    def digest(self) -> str:
        """sha256 of all that decides the store's bytes."""
        digest = hashlib.sha256()
        digest.update(json.dumps([self.settings, self.inputs], sort_keys=True).encode())
        digest.update(self.starts.write_csv().encode())
        digest.update(self.tiles.write_csv().encode())
        return digest.hexdigest()

    @property
    def starts(self) -> pl.DataFrame:
        """`species, chrom, first, last, split, block` of all species."""
        return _stacked({name: part.starts for name, part in self.species.items()})

    @property
    def tiles(self) -> pl.DataFrame:
        """`species, chrom, start, end, split, block` of all species."""
        return _stacked({name: part.tiles for name, part in self.species.items()})

    @property
    def total_bytes(self) -> int:
        """Size on disk but for tables."""
        return sum(part.bytes for part in self.species.values())

    def describe(self) -> dict[str, Any]:
        """Species, windows by part and bytes, ready for JSON."""
        return {
            "window": self.recipe.window,
            "species": {name: part.describe() for name, part in self.species.items()},
            "bytes": self.total_bytes,
            "plan": self.digest,
        }


def plan_sequences(recipe: SequenceRecipe, workers: int = 1) -> SequencePlan:
    """Divide the genomes and find the windows that may be read; nothing is written.

    Args:
        workers: species that are planned at the same time; the plan does not depend on it.

    Raises:
        CislensError: for a genome shorter than a window or all of N, a split that leaves a part
            empty, and as the readers of genomes, intervals and haplotypes.
    """
    _check_recipe(recipe)
    with ThreadPoolExecutor(workers) as executor:
        plans = list(executor.map(lambda name: _plan_species(recipe, name), recipe.genomes))
    return SequencePlan(recipe, dict(zip(recipe.genomes, plans, strict=True)))


def settings(recipe: SequenceRecipe) -> dict[str, Any]:
    """The recipe without its paths, as the manifest has it."""
    given = recipe.model_dump(mode="json", exclude={"genomes", *_FILES})
    given["split"].pop("store")
    return {"schema_version": SCHEMA_VERSION, "species": list(recipe.genomes), **given}


def inputs(recipe: SequenceRecipe) -> dict[str, Any]:
    """Name and sha256 of every file that the recipe names, by species.

    Raises:
        MissingFileError: if one is not there.
    """
    found: dict[str, Any] = {}
    for name, path in recipe.genomes.items():
        found[name] = {"genome": _file(path, "genome file")}
        for role in _FILES:
            if name in getattr(recipe, role):
                found[name][role] = _file(getattr(recipe, role)[name], f"{role} file")
    store = recipe.split.store
    return {"species": found, "split": None if store is None else store_digest(store)}


def _file(path: Path, what: str) -> dict[str, str]:
    return {"name": path.name, "sha256": file_digest(require_file(path, what))}


def _check_recipe(recipe: SequenceRecipe) -> None:
    split = recipe.split
    for name in recipe.genomes:
        if not SPECIES_NAME.fullmatch(name):
            raise CislensError(
                f"species name {name!r} cannot name a folder; use letters, digits, _, . and -."
            )
    for name in (*split.valid, *split.test, *split.exclude):
        if name not in recipe.genomes:
            raise CislensError(
                f"the split names species {name!r}, which has no genome. "
                f"{nearest(name, recipe.genomes)}"
            )
    if split.store is not None and (split.valid or split.test or split.block_bp):
        raise CislensError(
            f"split: the parts are taken from {split.store}; leave out valid, test and block_bp."
        )


def _plan_species(recipe: SequenceRecipe, name: str) -> SpeciesPlan:
    genome = open_genome(recipe.genomes[name])
    # What is read in a moment comes first: a mistake there should not take minutes to be told.
    probe = read_probe(recipe.probe[name], genome) if name in recipe.probe else None
    avoided = _spans(recipe.blacklist[name], genome) if name in recipe.blacklist else {}
    tiles, left_out = tile_genome(genome, recipe.window)
    for part in (recipe.split.valid, recipe.split.test, recipe.split.exclude):
        for chrom in part.get(name, []):
            genome.size(chrom)
    haplotypes = None
    if name in recipe.haplotypes:
        haplotypes = read_haplotypes(recipe.haplotypes[name], genome)
    if recipe.split.store is not None:
        tiles = taken_parts(name, genome, recipe.split.store, recipe.split)
    else:
        # Tiles without room for a window would take shares of the parts and give nothing.
        tiles = tiles.filter(pl.col("called") >= recipe.window * (1 - recipe.most_n))
        tiles = part_tiles(name, genome, tiles, recipe.split, recipe.window, recipe.seed)
    limits = Limits(recipe.window, recipe.most_n, recipe.most_repeats, avoided)
    starts = valid_starts(genome, tiles, limits)
    empty = [part for part in PARTS if part not in set(starts["split"])]
    if empty:
        raise CislensError(
            f"no window of species {name!r} is left for {empty[0]}: {tiles.height:,} tiles of "
            f"{genome.path} have none of {recipe.window:,} bp with at most {recipe.most_n:.0%} N "
            f"and {recipe.most_repeats:.0%} repeats outside the blacklist there. Allow more, or "
            "divide the genome in another way."
        )
    return SpeciesPlan(genome, tiles, starts, left_out, probe, haplotypes)


def _spans(path: Path, genome: Genome) -> Mapping[str, Spans]:
    """The union of a file's intervals by chromosome, under the genome's names."""
    table = read_intervals(path)
    names = match_names(table["chrom"].unique(maintain_order=True), genome.chrom_sizes, str(path))
    parts = names.rename(table).group_by("chrom", maintain_order=True)
    return {str(chrom): Spans.of(part) for (chrom,), part in parts}


def _stacked(tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    frames = [
        table.select(pl.lit(name).alias("species"), pl.all()) for name, table in tables.items()
    ]
    return pl.concat(frames)
