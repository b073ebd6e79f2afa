"""What a run over variants is asked for, and the manifest that tells one run from another."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cislens.effects.devices import resolve_device
from cislens.effects.variants.scores import Scoring
from cislens.errors import CislensError
from cislens.files import file_digest
from cislens.genome.reference import Genome

FORMAT = "cislens-variants"
VERSION = 2
MANIFEST = "manifest.json"
_RESULTS = ("variants.parquet", "variants.vcf.gz", "tracks.tsv", "background.parquet",
            "summary.json")  # fmt: skip


@dataclass(frozen=True)
class Request:
    """What a run is asked for.

    Attributes:
        model: folder of a trained model.
        variants: VCF, BCF, TSV, CSV or parquet.
        genome: FASTA or 2bit that they are variants of, opened.
        scoring: what is asked of the model; its genes come from `genes`.
        columns: names of a table's columns for `chrom`, `pos`, `ref`, `alt`, `id`.
        genes: GTF, GFF3 or BED.
        gene_names: if given, only variants near these genes are scored.
        background: how many background variants; 0 for none, and no percentiles.
        seed: of the background.
        keep_going: leave out what is wrong, however much it is.
    """

    model: Path
    variants: Path
    genome: Genome
    scoring: Scoring = field(default_factory=Scoring)
    columns: Mapping[str, str] = field(default_factory=dict)
    genes: Path | None = None
    gene_names: Sequence[str] = ()
    background: int = 1000
    seed: int = 0
    keep_going: bool = False

    def __post_init__(self) -> None:
        if self.background < 0:
            raise CislensError(f"--background {self.background}: give 0 or a positive number.")
        if self.gene_names and self.genes is None:
            raise CislensError("--gene needs --genes: the file that says where the genes are.")

    @property
    def folder(self) -> Path:
        """The model's own folder, also if that of its run was given."""
        inside = self.model / "model"
        return inside if (inside / "config.json").exists() else self.model


def manifest_of(request: Request, species: str | None, batch_size: int) -> dict[str, Any]:
    """All that the numbers of a run depend on: settings as they were resolved, and digests."""
    scoring = request.scoring
    settings = asdict(replace(scoring, genes=None))
    settings |= {
        "species": species,
        "device": str(resolve_device(scoring.device)),
        "batch_size": batch_size,
        "columns": dict(request.columns),
        "gene_names": list(request.gene_names),
        "background": request.background,
        "seed": request.seed,
    }
    return {
        "format": FORMAT,
        "version": VERSION,
        "settings": settings,
        "model": model_files(request.folder),
        "genome": request.genome.digest,
        "variants": file_digest(request.variants),
        "genes": None if request.genes is None else file_digest(request.genes),
    }


def model_files(folder: Path) -> dict[str, str]:
    """sha256 of each file of a model that decides what it gives."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    kinds = (".json", ".safetensors")
    return {path.name: file_digest(path) for path in files if path.suffix in kinds}


def require_own(out: Path, manifest: dict[str, Any]) -> None:
    """Refuse a folder that holds something else than what an earlier run of this left there.

    Raises:
        CislensError: naming the settings that differ.
    """
    if out.exists() and not out.is_dir():
        raise CislensError(f"{out} is a file; give a folder.")
    path = out / MANIFEST
    if not path.exists():
        # The manifest is written before any of these; a refused run leaves the doctor's files only.
        foreign = [name for name in _RESULTS if (out / name).exists()]
        if foreign:
            raise CislensError(
                f"{out} holds a {foreign[0]} that is not of a run over variants; give another "
                "folder."
            )
        return
    try:
        found = json.loads(path.read_text())
    except (ValueError, RecursionError):
        found = {}
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise CislensError(f"{out} holds something else than scored variants; give another folder.")
    wanted = json.loads(json.dumps(manifest))
    theirs, ours = _flat(found), _flat(wanted)
    other = sorted(key for key in {*theirs, *ours} if theirs.get(key) != ours.get(key))
    if other:
        raise CislensError(
            f"{out} holds variants scored otherwise ({', '.join(other)} differ); remove it or give "
            "another folder."
        )


def _flat(manifest: dict[str, Any]) -> dict[str, Any]:
    """One level, the settings and the model as they are called."""
    given = manifest.get("settings")
    settings = given if isinstance(given, dict) else {}
    rest = {key: value for key, value in manifest.items() if key != "settings"}
    return rest | {f"--{key.replace('_', '-')}": value for key, value in settings.items()}
