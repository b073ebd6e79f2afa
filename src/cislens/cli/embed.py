"""`cislens embed`: sequences to an embedding store, so that judging them needs no model."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from cislens.cli.embed_inputs import BASELINES, RANDOM, Source, read_sequences, refuse
from cislens.cli.embed_regions import embed_regions
from cislens.cli.options import AsJson, DryRun, EngineName, Workers, answer, given

if TYPE_CHECKING:
    from cislens.engines import Reopened
    from cislens.genome.codes import Codes
    from cislens.representations.contract import Representation
    from cislens.representations.estimate import Embed
    from cislens.representations.store import EmbeddingStore
    from cislens.representations.worker_client import Runner

logger = logging.getLogger("cislens")

Out = Annotated[Path, typer.Option("--out", help="Embedding store to write (a folder).")]
Model = Annotated[
    Path | None, typer.Option("--model", help="Run or model folder; with --family, its weights.")
]
Family = Annotated[
    str | None, typer.Option("--family", help="Family of the published model in --model.")
]
Baseline = Annotated[str | None, typer.Option("--baseline", help=f"One of {', '.join(BASELINES)}.")]
OtherPython = Annotated[
    str | None, typer.Option("--runner", help="python=INTERPRETER of a model's own stack.")
]
Adapter = Annotated[
    Path | None, typer.Option("--adapter", help="Python file with load(), for --runner.")
]
Argument = Annotated[
    str | None, typer.Option("--argument", help="What the adapter's load() is given.")
]
Name = Annotated[str | None, typer.Option("--name", help="How tables call a --model.")]
Random = Annotated[
    str | None,
    typer.Option("--random", help=f"Control of the --model instead: {', '.join(RANDOM)}."),
]
Draw = Annotated[int, typer.Option("--draw", min=0, help="Which draw of --random.")]
TaskFolder = Annotated[Path | None, typer.Option("--task", help="Task folder to embed.")]
Fasta = Annotated[Path | None, typer.Option("--fasta", help="Sequences to embed.")]
Bed = Annotated[Path | None, typer.Option("--bed", help="Intervals to embed; with --genome.")]
GenomeFile = Annotated[Path | None, typer.Option("--genome", help="FASTA or 2bit.")]
Regions = Annotated[
    Path | None,
    typer.Option("--regions", help="Region store: embed its regions in its cell types."),
]
Cells = Annotated[
    list[str] | None, typer.Option("--cell", help="Cell type of --regions; all unless given.")
]
Views = Annotated[
    str | None, typer.Option("--views", help="layer.pooling, by commas, the default last; or all.")
]
Bins = Annotated[bool, typer.Option("--bins", help="Also store the bins of the last layer.")]
Dtype = Annotated[
    str, typer.Option("--dtype", help="float32, or float16 for half the disk; not for variants.")
]
Species = Annotated[
    str | None, typer.Option("--species", help="Species; that of the task unless given.")
]
Stranded = Annotated[
    bool | None,
    typer.Option("--stranded/--unstranded", help="One strand, or the mean of both."),
]


def command(
    out: Out,
    model: Model = None,
    family: Family = None,
    baseline: Baseline = None,
    runner: OtherPython = None,
    adapter: Adapter = None,
    argument: Argument = None,
    name: Name = None,
    random: Random = None,
    draw: Draw = 0,
    task: TaskFolder = None,
    fasta: Fasta = None,
    bed: Bed = None,
    genome: GenomeFile = None,
    regions: Regions = None,
    cell: Cells = None,
    views: Views = None,
    bins: Bins = False,
    dtype: Dtype = "float32",
    species: Species = None,
    stranded: Stranded = None,
    engine: EngineName = "local",
    workers: Workers = 1,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Write the features of sequences to disk.

    Of a task, a FASTA file, intervals, or regions in cell types. The same command resumes. A dry
    run embeds a small sample and says what time, disk and memory the whole will need.
    """
    from cislens.engines import HERE, Reopened
    from cislens.scale.engines import engine_of

    refuse(cell is not None and regions is None, "--cell goes with --regions")
    by, other_engine = engine_of(engine, workers), (engine, workers) != ("local", 1)
    refuse(
        other_engine and (regions is not None or runner is not None),
        "--engine and --workers go with --model without --regions, and with --baseline",
    )
    if regions is not None:
        others = (family, baseline, runner, random, task, fasta, bed, genome, views, species)
        refuse(model is None, "--regions needs --model, a multi-modal run or model folder")
        refuse(any(each is not None for each in others), "--regions goes with --model and --cell")
        assert model is not None
        answer(embed_regions(model, regions, cell or [], out, dry_run), as_json)
        return
    source = Source(model, family, baseline, runner, adapter, argument, name, random, draw)
    opened = Reopened(Source.open, source)
    refuse(runner is not None and (views is not None or bins), "the adapter gives its own views")
    fasta, bed, genome = (each and given(each) for each in (fasta, bed, genome))
    read = read_sequences(task, fasta, bed, genome, stranded)
    asked: dict[str, Any] = {
        "species": species or read.species,
        "stranded": read.stranded if stranded is None else stranded,
        "dtype": dtype,
        "task": read.task,
        "remapped": read.remapped,
    }
    own = {
        "views": views,
        "bins": bins,
        "seed": None if random is None else draw,
        "engine": HERE if dry_run else by,
    }
    embed = _embedder(opened, asked, own)
    if dry_run:
        from cislens.representations.estimate import estimate

        answer({**estimate(embed, read.codes, read.ids), **_chunks(out, read.codes)}, as_json)
    else:
        answer(_summary(embed(read.codes, read.ids, out)), as_json)


def _chunks(out: Path, sequences: "list[Codes]") -> dict[str, int]:
    """How many units of work there are, and how many of them an earlier run has left."""
    from cislens.representations.chunks import chunks_done
    from cislens.representations.planning import chunk_rows

    count = -(-len(sequences) // chunk_rows(sequences))
    return {"chunks": count, "chunks_done": count if out.exists() else chunks_done(out)}


def _embedder(
    opened: "Reopened[Representation | Runner]", asked: dict[str, Any], own: dict[str, Any]
) -> "Embed":
    """What embeds sequences into a folder; `own` is for a representation in this Python only."""
    from cislens.representations.worker_client import Runner, run_worker
    from cislens.representations.writing import write_embeddings

    source = opened.thing
    if isinstance(source, Runner):
        return lambda codes, ids, folder: run_worker(source, codes, ids, folder, **asked)
    made = cast("Reopened[Representation]", opened)
    known: tuple[str, ...] = getattr(getattr(source, "encoder", None), "species", ())
    if known and asked["species"] not in known:
        logger.warning(
            "the model knows %s; %s is embedded as an unknown species",
            ", ".join(known), asked["species"] or "no named species",
        )  # fmt: skip
    settings = {**asked, **own, "views": _views(own["views"], source)}
    return lambda codes, ids, folder: write_embeddings(folder, made, codes, ids, **settings)


def _views(asked: str | None, source: "Representation") -> list[str] | None:
    if asked is None:
        return None
    if asked == "all":
        return list(getattr(source, "views", ())) or None
    return [view.strip() for view in asked.split(",")]


def _summary(store: "EmbeddingStore") -> dict[str, Any]:
    manifest = store.manifest
    return {
        "store": str(store.path),
        "encoder": manifest["encoder"]["name"],
        "sequences": len(store),
        "views": manifest["views"],
        "task": manifest["task"],
        "species": manifest["species"],
        "stranded": manifest["stranded"],
        "remapped": manifest["remapped"],
        "digest": store.digest,
        **{key: round(value, 3) for key, value in store.ledger.items()},
    }
