"""`cislens predict`: the tracks of a region or a genome, as bigWig."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cislens.cli.options import AsJson, DryRun, answer
from cislens.errors import CislensError

if TYPE_CHECKING:
    import polars as pl

    from cislens.genome.reference import Genome


def command(
    model: Annotated[Path, typer.Argument(help="Model folder of a run.")],
    genome: Annotated[Path, typer.Option("--genome", help="FASTA or 2bit.")],
    species: Annotated[str, typer.Option("--species", help="Species of the model to predict as.")],
    out: Annotated[Path, typer.Option("--out", help="Folder; one bigWig per track.")],
    regions: Annotated[
        Path | None, typer.Option("--regions", help="BED; whole chromosomes unless given.")
    ] = None,
    average: Annotated[
        str,
        typer.Option("--average", help="Views averaged: rc, shift (-1, 0, 1 bp), both, or none."),
    ] = "rc",
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Predict every track of a species: mean signal per base and bin, views averaged."""
    from cislens.effects.averaging import read_averaging
    from cislens.effects.tracks import predict_tracks, write_track_bigwigs
    from cislens.genome.reference import open_genome
    from cislens.models.saving import load_profile_model
    from cislens.signal.datacard import DataCard

    averaging = read_averaging(average)
    net, card = load_profile_model(model), DataCard.read(model)
    net.view(species)  # refuses a species that the model does not have
    reference = open_genome(genome, species)
    where = _regions(regions, reference)
    if dry_run:
        answer(_plan(reference, where, species, len(card.tracks.for_species(species))), as_json)
        return
    predicted = predict_tracks(
        net,
        reference,
        where,
        species,
        card.tracks.for_species(species),
        length=card.length,
        average_strands=averaging.reverse_complement,
        shifts=averaging.shifts,
    )
    files = write_track_bigwigs(predicted, out)
    answer({"bins": predicted.bins.height, "files": [str(path) for path in files]}, as_json)


def _regions(path: Path | None, genome: "Genome") -> "pl.DataFrame":
    import polars as pl

    from cislens.genome.chromosomes import match_names
    from cislens.genome.intervals import read_intervals

    if path is None:
        sizes = genome.chrom_sizes
        return pl.DataFrame({"chrom": list(sizes), "start": 0, "end": list(sizes.values())})
    frame = read_intervals(path)
    names = match_names(frame["chrom"].unique().to_list(), list(genome.chrom_sizes), str(path))
    unmatched = frame.filter(~pl.col("chrom").is_in(list(names.mapping)))
    if not unmatched.is_empty():
        raise CislensError(
            f"{path}: chromosome {unmatched['chrom'][0]!r} is not in {genome.path}; remove its "
            "intervals or give the genome they belong to."
        )
    return frame.with_columns(pl.col("chrom").replace(names.mapping))


def _plan(genome: "Genome", regions: "pl.DataFrame", species: str, tracks: int) -> dict[str, Any]:
    from cislens.genome.codes import decode

    first = regions.row(0, named=True)
    end = min(first["end"], first["start"] + 60)
    return {
        "species": species,
        "tracks": tracks,
        "regions": regions.height,
        "bases": int((regions["end"] - regions["start"]).sum()),
        "first_bases": decode(genome.fetch(first["chrom"], first["start"], end)),
    }
