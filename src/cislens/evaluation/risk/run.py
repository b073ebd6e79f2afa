"""Risk of people from files: genotypes, effects of variants, status."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError, nearest
from cislens.evaluation.risk.assess import Assessment, assess
from cislens.evaluation.risk.people import People, read_people
from cislens.evaluation.risk.scores import joined, loci, principal_components, risk_scores
from cislens.evaluation.tasks.controls import tss_distance
from cislens.files import atomic_path, file_digest
from cislens.genome.genotypes import KEYS, Genotypes, read_genotypes
from cislens.genome.variants import read_variants
from cislens.randomness import generator

_RECORD = "risk.json"
_TSS_REACH = 1000  # bp at which a variant counts half


@dataclass(frozen=True)
class RiskInputs:
    """What a risk assessment reads, and how.

    Attributes:
        genotypes: VCF or BCF.
        people: table of samples, status and covariates.
        effects: table of variants with a number each, in the column `score`; `locus` may name the
            locus or gene of each. None where a model gives them.
        genes: annotation files; with them the distance to the next TSS alone is a control.
        locus_bp: width of a locus where the effects name none.
        components: principal components of the genotypes that are covariates too.
    """

    genotypes: Path
    people: Path
    effects: Path | None
    score: str = "effect"
    genes: tuple[Path, ...] = ()
    covariates: tuple[str, ...] = ()
    components: int = 0
    locus_bp: int = 1_000_000
    permutations: int = 1000
    seed: int = 0


@dataclass(frozen=True)
class Prepared:
    """Everything read and joined, before any model."""

    genotypes: Genotypes
    variants: pl.DataFrame
    people: People
    counts: dict[str, int] = field(default_factory=dict)


def prepare(
    inputs: RiskInputs, effects_of: Callable[[pl.DataFrame], pl.DataFrame] | None = None
) -> Prepared:
    """Read and join the files.

    Args:
        effects_of: gives variants (`chrom, pos, ref, alt`) their column `effect`, where the inputs
            name no table.

    Raises:
        CislensError: for people without genotypes, no common variant, or what reading raises.
    """
    people = read_people(inputs.people, inputs.covariates)
    everybody = read_genotypes(inputs.genotypes)
    chosen = everybody.of_samples(people.samples)
    if inputs.effects is not None:
        effects, missing = _read_effects(inputs.effects, inputs.score)
        source = str(inputs.effects)
    else:
        assert effects_of is not None
        effects, missing, source = effects_of(chosen.variants), 0, "the model"
    genotypes, variants = joined(chosen, effects, source)
    counts = {
        "people": len(people.samples), "cases": int(people.status_N.sum()),
        "people without status or covariates": people.incomplete,
        "people without a row in the table": len(everybody.samples) - len(people.samples),
        "variants": variants.height, "loci": loci(variants, inputs.locus_bp).n_unique(),
        "variants with genotypes and no effect": chosen.variants.height - variants.height,
        "variants with an effect and no genotypes": effects.height - variants.height,
        "effects that are missing": missing,
    }  # fmt: skip
    return Prepared(genotypes, variants, people, counts)


def _read_effects(path: Path, score: str) -> tuple[pl.DataFrame, int]:
    """Variants with a finite effect, and how many have none."""
    table = read_variants(path)
    if score not in table.columns:
        raise CislensError(
            f"{path} has no column {score!r} of effects. {nearest(score, table.columns)}"
        )
    value = table[score].cast(pl.Float64, strict=False)
    known = value.is_not_null() & value.is_finite().fill_null(value=False)
    keep = [name for name in (*KEYS, "effect", "locus") if name in (*table.columns, "effect")]
    return table.with_columns(effect=value).filter(known).select(keep), int((~known).sum())


def risk_arms(
    prepared: Prepared, genes: tuple[Path, ...], locus_bp: int, seed: int
) -> dict[str, npt.NDArray[np.float64]]:
    """The scores of the effects, and of what should be beaten: by locus, (N, L) each.

    variant count: every alternate allele counts 1. random effects: the effects dealt to other
    variants. TSS distance: 1 / (1 + d / 1 kb), with genes.
    """
    effect = prepared.variants["effect"].to_numpy()
    weights = {
        "effects": effect,
        "variant count": np.ones(len(effect)),
        "random effects": generator(seed, "effects").permutation(effect),
    }
    if genes:
        known = prepared.variants["chrom"].unique(maintain_order=True)
        distance = tss_distance(prepared.variants, known.to_list(), genes)
        weights["TSS distance"] = 1 / (1 + distance.fill_null(np.inf).to_numpy() / _TSS_REACH)
    locus = loci(prepared.variants, locus_bp)
    dosage = prepared.genotypes.dosage_NV
    return {name: risk_scores(dosage, weight, locus)[0] for name, weight in weights.items()}


def run_risk(inputs: RiskInputs, prepared: Prepared) -> Assessment:
    """Fit and judge all arms; see `assess.assess`."""
    covariates = prepared.people.covariates_NK
    if inputs.components:
        found = principal_components(prepared.genotypes.dosage_NV, inputs.components)
        covariates = np.concatenate([covariates, found], axis=1)
    return assess(
        prepared.people.status_N,
        risk_arms(prepared, inputs.genes, inputs.locus_bp, inputs.seed),
        covariates if covariates.shape[1] else None,
        permutations=inputs.permutations,
        seed=inputs.seed,
    )


def require_place(folder: Path) -> None:
    """Refuse to write where something else is; an earlier assessment may be replaced.

    Raises:
        CislensError: naming what is there.
    """
    other = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    if folder.is_file() or (other and _RECORD not in other):
        what = sorted(other)[0] if other else folder.name
        raise CislensError(
            f"{folder} holds {what!r}, which is of no risk assessment; choose another --out."
        )


def write_risk(
    out: Path,
    inputs: RiskInputs,
    prepared: Prepared,
    found: Assessment,
    model: str | None = None,
) -> dict[str, Any]:
    """Write `risk.tsv`, `differences.tsv`, `people.tsv`, `effects.tsv` (of the variants that were
    used) and `risk.json` into a folder, whole.

    Args:
        model: digest of what gave the effects, where it was no file.

    Returns:
        What `risk.json` holds.
    """
    require_place(out)
    files: dict[str, Path] = {
        "genotypes": inputs.genotypes, "people": inputs.people,
        **({} if inputs.effects is None else {"effects": inputs.effects}),
        **{f"genes.{number}": path for number, path in enumerate(inputs.genes, 1)},
    }  # fmt: skip
    record: dict[str, Any] = {
        "files": {
            role: {"name": path.name, "sha256": file_digest(path)} for role, path in files.items()
        },
        "model": model, "score": inputs.score, "covariates": list(inputs.covariates),
        "components": inputs.components, "locus_bp": inputs.locus_bp,
        "permutations": inputs.permutations, "seed": inputs.seed, "counts": prepared.counts,
    }  # fmt: skip
    names = pl.Series("sample", prepared.people.samples)
    status = pl.Series("status", prepared.people.status_N)
    people = found.people.with_columns(
        sample=names.gather(found.people["person"]), status=status.gather(found.people["person"])
    ).select("arm", "sample", "status", "score")
    with atomic_path(out) as aside:
        aside.mkdir()
        found.results.write_csv(aside / "risk.tsv", separator="\t")
        found.differences.write_csv(aside / "differences.tsv", separator="\t")
        people.write_csv(aside / "people.tsv", separator="\t")
        prepared.variants.write_csv(aside / "effects.tsv", separator="\t")
        (aside / _RECORD).write_text(json.dumps(record, indent=2) + "\n")
    return record
