"""`cislens data basenji`: records of Basenji's and Enformer's training data into a store."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cislens.cli.options import AsJson, DryRun, EngineName, Workers, answer
from cislens.errors import CislensError

if TYPE_CHECKING:
    from cislens.signal.basenji_plan import BasenjiSource

Folders = Annotated[
    list[Path],
    typer.Argument(help="Folder of record files, one for each species.", metavar="FOLDER..."),
]
SpeciesNames = Annotated[
    list[str], typer.Option("--species", help="Of each folder, in their order.")
]
Targets = Annotated[
    list[Path] | None,
    typer.Option("--targets", help="Track table of each folder; its targets.txt, unless given."),
]
Genomes = Annotated[
    list[Path] | None,
    typer.Option(
        "--genome", help="FASTA or 2bit of each folder: fills margins, checks every window."
    ),
]


def command(
    folders: Folders,
    species: SpeciesNames,
    out: Annotated[Path, typer.Option("--out", help="Store to write (a folder).")],
    targets: Targets = None,
    genome: Genomes = None,
    length: Annotated[
        int | None, typer.Option(help="bp of a window, if longer than the records'; e.g. 196608.")
    ] = None,
    bin_size: Annotated[int, typer.Option(min=1, help="bp, unless statistics.json says it.")] = 128,
    crop: Annotated[
        int | None, typer.Option(min=0, help="Bins of a record without target at either side.")
    ] = None,
    margin: Annotated[int, typer.Option(min=0, help="bp kept at either side, for shifts.")] = 3,
    engine: EngineName = "local",
    workers: Workers = 1,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """TFRecord folders of calico/basenji -> ProfileStore. Resumes an import that was interrupted.

    For several species repeat --species, --targets and --genome in the order of the folders;
    each species is the work of one worker.
    """
    from cislens.remote import local
    from cislens.scale.engines import engine_of
    from cislens.signal.basenji_import import import_basenji
    from cislens.signal.basenji_plan import plan_import

    out = local(out, "an import")
    sources = _sources(folders, species, targets or [], genome or [])
    plan = plan_import(sources, bin_size=bin_size, crop=crop, length=length, margin=margin)
    result = {"store": str(out), **plan.describe()}
    if not dry_run:
        store = import_basenji(out, plan, engine_of(engine, workers))
        windows = {name: store.windows(name).height for name in store.species}
        result |= {"windows": windows, "digest": store.digest}
    answer(result, as_json)


def _sources(
    folders: Sequence[Path],
    species: Sequence[str],
    targets: Sequence[Path],
    genomes: Sequence[Path],
) -> "list[BasenjiSource]":
    from cislens.genome.reference import open_genome
    from cislens.signal.basenji import open_basenji
    from cislens.signal.basenji_plan import BasenjiSource
    from cislens.signal.tracks import read_tracks

    for name, given in (("--species", species), ("--targets", targets), ("--genome", genomes)):
        if len(given) != len(folders) and (given or name == "--species"):
            raise CislensError(
                f"{len(folders)} folders were given and {len(given)} times {name}; repeat it for "
                "each folder, in their order."
            )
    sources = []
    for at, folder in enumerate(folders):
        found = open_basenji(folder)
        table = targets[at] if targets else folder / "targets.txt"
        tracks = read_tracks(table, species=species[at])
        if species[at] not in tracks.species():
            raise CislensError(
                f"{table} has no track of species {species[at]!r}; it names "
                f"{', '.join(tracks.species())}. Give --species as the table does."
            )
        reference = open_genome(genomes[at], species[at]) if genomes else None
        sources.append(
            BasenjiSource(species[at], found, tracks.for_species(species[at]), reference)
        )
    return sources
