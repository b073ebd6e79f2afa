"""`cislens attribute`: which bases a prediction rests on, for browsers and motif finders."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cislens.cli.options import AsJson, DryRun, answer, given
from cislens.errors import CislensError

if TYPE_CHECKING:
    from cislens.effects.attribution.plan import Plan
    from cislens.effects.attribution.subject import Subject
    from cislens.motifs.library import MotifLibrary

Target = Annotated[
    str | None,
    typer.Option(
        "--target",
        help='What is explained, e.g. mean(assay == "ATAC"); none for --method entropy.',
    ),
]
Method = Annotated[
    str, typer.Option("--method", help="saliency, integrated_gradients, ism or entropy.")
]
Width = Annotated[
    int | None,
    typer.Option("--width", min=1, help="bp around each region; the model's length by default."),
]
Within = Annotated[
    int | None,
    typer.Option(
        "--within", min=1, help="Maps of this many bp around the middle only; ism takes less time."
    ),
]
Insert = Annotated[
    list[str] | None,
    typer.Option(
        "--insert",
        help="Instead of maps: what a motif (IUPAC letters, or an identifier of --motifs) does "
        "to the target in shuffled regions. Several are allowed.",
    ),
]
Motifs = Annotated[
    str | None,
    typer.Option("--motifs", help="Library: a file, or e.g. JASPAR2026:CORE:vertebrates."),
]


@dataclass(frozen=True)
class Inserted:
    """What `--insert` asks for."""

    names: list[str]
    library: "MotifLibrary | None"
    background: Any
    count: int | None


def command(
    model: Annotated[Path, typer.Argument(help="Model or run folder.")],
    regions: Annotated[Path, typer.Argument(help="BED or narrowPeak.")],
    genome: Annotated[Path, typer.Option("--genome", help="FASTA or 2bit.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")],
    species: Annotated[
        str | None, typer.Option("--species", help="Species of the model, where it has several.")
    ] = None,
    target: Target = None,
    method: Method = "saliency",
    width: Width = None,
    within: Within = None,
    average: Annotated[
        str, typer.Option("--average", help="rc: the mean over both strands; or none.")
    ] = "rc",
    steps: Annotated[
        int, typer.Option("--steps", min=1, help="Points of a path of integrated gradients.")
    ] = 32,
    backgrounds: Annotated[
        int | None,
        typer.Option("--backgrounds", min=1, help="Shuffles: 4 a region; 300 for --insert."),
    ] = None,
    background: Annotated[
        str,
        typer.Option("--background", help="Of --insert: shuffled, or genome (matched in GC)."),
    ] = "shuffled",
    logos: Annotated[
        int, typer.Option("--logos", min=0, help="SVG logos of the strongest regions.")
    ] = 0,
    seqlets: Annotated[
        bool, typer.Option("--seqlets", help="BED of short stretches that matter together.")
    ] = False,
    insert: Insert = None,
    motifs: Motifs = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Windows at once.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the shuffled backgrounds.")] = 0,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Say which bases a number of the model rests on.

    Around each region of a genome. The same command resumes where it was stopped.
    """
    from typing import cast

    from cislens.effects.attribution.files import read_windows
    from cislens.effects.attribution.plan import Extras, Plan, Question
    from cislens.effects.attribution.subject import Subject
    from cislens.genome.reference import open_genome
    from cislens.motifs.library import read_library

    _require_target(target, method, average)
    if insert and (logos or seqlets or within is not None or method != "saliency"):
        raise CislensError(
            "--insert scores motifs and makes no maps; leave --method, --within, --logos and "
            "--seqlets out."
        )
    subject = Subject.load(model)
    species = subject.species(species)
    library = None if motifs is None else read_library(str(given(motifs)))
    reference = open_genome(given(genome), species)
    windows = read_windows(given(regions), reference, _width(width, subject, model))
    if insert:
        question = Question(target, "saliency", species, cast(Any, average), seed=seed)
        extras = Extras()
    else:
        question = Question(
            target, cast(Any, method), species, cast(Any, average), steps,
            backgrounds=backgrounds or 4, seed=seed,
        )  # fmt: skip
        extras = Extras(logos, seqlets, library)
    plan = Plan(subject, reference, windows, question, extras, out, device, batch_size, within)
    plan.check(maps=not insert)
    if insert:
        _insert(plan, Inserted(insert, library, background, backgrounds), dry_run, as_json)
    elif dry_run:
        answer(_described(plan), as_json)
    else:
        _run(plan, as_json)


def _require_target(target: str | None, method: str, average: str) -> None:
    if method != "entropy" and target is None:
        raise CislensError(
            "--target says what is explained, e.g. --target 'mean(assay == \"ATAC\")'; only "
            "--method entropy needs none."
        )
    if average not in ("rc", "none"):
        raise CislensError(f"--average is {average!r}, expected rc or none.")


def _run(plan: "Plan", as_json: bool) -> None:
    from cislens.effects.attribution.run import run

    manifest = run(plan)
    kept = ("regions", "width", "seqlets", "files")
    answer({"out": str(plan.out), **{k: manifest[k] for k in kept if k in manifest}}, as_json)


def _width(asked: int | None, subject: "Subject", model: Path) -> int:
    if asked is not None:
        return asked
    if subject.length is None:
        raise CislensError(
            f"{model} does not say how long the windows of its model are; give --width."
        )
    return subject.length


def _described(plan: "Plan") -> dict[str, Any]:
    from cislens.effects.devices import resolve_device

    sizes = [plan.genome.size(chrom) for chrom in plan.windows["chrom"]]
    over = [
        start < 0 or end > size
        for (start, end), size in zip(
            plan.windows.select("start", "end").iter_rows(), sizes, strict=True
        )
    ]
    return {
        "method": plan.question.method,
        "target": plan.question.target,
        "species": plan.question.species,
        "regions": len(plan.windows),
        "width": plan.width,
        "within": plan.within,
        "padded": sum(over),
        "device": str(resolve_device(plan.device)),
        "bytes": plan.bytes,
        "first": "{chrom}:{start}-{end}".format(**plan.windows.row(0, named=True)),
        "out": str(plan.out),
    }


def _insert(plan: "Plan", asked: "Inserted", dry_run: bool, as_json: bool) -> None:
    """`--insert`: one row a motif, to the folder and to the terminal."""
    from cislens.effects.attribution.importance import BACKGROUNDS
    from cislens.effects.attribution.insertion import TABLE, Insertion, asked_motifs

    motifs = asked_motifs(asked.names, asked.library)
    count = asked.count or BACKGROUNDS
    insertion = Insertion(plan, motifs, asked.background, count)
    insertion.check()
    if dry_run:
        described = _described(plan)
        for unused in ("method", "bytes"):
            described.pop(unused)
        names = [motif.name for motif in motifs]
        answer({**described, "motifs": names, "backgrounds": count}, as_json)
        return
    table = insertion.run()
    text = (plan.out / TABLE).read_text(encoding="utf-8")
    answer({"out": str(plan.out), "motifs": table.to_dicts()}, as_json, text.rstrip("\n"))
