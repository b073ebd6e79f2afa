"""`cislens predict`: the tracks of a region or a genome, as bigWig, parquet or zarr."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cislens.cli.options import AsJson, DryRun, EngineName, Out, Workers, answer, given
from cislens.errors import CislensError

if TYPE_CHECKING:
    from cislens.effects.track_run import Prediction

logger = logging.getLogger("cislens")


Models = Annotated[
    list[Path],
    typer.Argument(
        metavar="MODEL...", help="Model folder of a run; several are an ensemble.",
        show_default=False,
    ),
]  # fmt: skip
GenomeFile = Annotated[Path, typer.Option("--genome", help="FASTA or 2bit.")]
Species = Annotated[
    str | None, typer.Option("--species", help="Needed where the model has several.")
]
Regions = Annotated[
    Path | None, typer.Option("--regions", help="BED; whole chromosomes unless given.")
]
Tracks = Annotated[
    str | None,
    typer.Option("--tracks", help='Query, e.g. \'assay == "ATAC" and biosample ~ "K562"\'.'),
]
Average = Annotated[
    str, typer.Option("--average", help="Views averaged: rc, shift (-1, 0, 1 bp), rc,shift, none.")
]
Formats = Annotated[str, typer.Option("--format", help="bigwig, parquet, zarr; several by commas.")]
Trim = Annotated[
    int | None,
    typer.Option("--trim", min=0, help="Bins not used at window ends; the model's crop."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
PrecisionName = Annotated[str, typer.Option("--precision", help="fp32 or bf16.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Windows at once.")]


def command(
    models: Models,
    genome: GenomeFile,
    out: Out,
    species: Species = None,
    regions: Regions = None,
    tracks: Tracks = None,
    average: Average = "rc",
    formats: Formats = "bigwig",
    trim: Trim = None,
    device: Device = "auto",
    precision: PrecisionName = "fp32",
    batch_size: BatchSize = 8,
    engine: EngineName = "local",
    workers: Workers = 1,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Predict tracks of a species: mean signal per base and bin. The same command resumes.

    Several models give their mean, and their standard deviation beside it as ID.spread.bw.
    """
    from cislens.effects.track_plan import plan_prediction
    from cislens.genome.reference import open_genome
    from cislens.scale.engines import engine_of

    by = engine_of(engine, workers)
    if precision not in ("fp32", "bf16"):
        raise CislensError(f"--precision {precision!r} is neither fp32 nor bf16.")
    prediction = plan_prediction(
        models,
        open_genome(given(genome)),
        None if regions is None else given(regions),
        out,
        species=species,
        tracks=tracks,
        average=average,
        device=device,
        precision="bf16" if precision == "bf16" else "fp32",
        trim=trim,
        batch_size=batch_size,
        formats=[word.strip() for word in formats.split(",") if word.strip()],
    )
    _say(prediction)
    if dry_run:
        answer(prediction.plan(), as_json)
        return
    files = prediction.run(by)
    found = {
        "bins": prediction.tiling.rows,
        "windows": prediction.tiling.windows,
        "windows_padded_with_n": prediction.tiling.padded,
        "files": [str(path) for path in files],
    }
    answer(found, as_json)


def _say(prediction: "Prediction") -> None:
    tiling = prediction.tiling
    count, first = prediction.regions.narrower(tiling.bin_size)
    if count:
        logger.info(
            "%d of %d regions are shorter than a bin of %d bp and are widened to whole bins "
            "(the first is %s)",
            count, prediction.regions.frame.height, tiling.bin_size, first,
        )  # fmt: skip
    if tiling.padded:
        logger.info(
            "%d of %d windows reach over a chromosome's end and are padded with N",
            tiling.padded, tiling.windows,
        )  # fmt: skip
