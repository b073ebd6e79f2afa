"""The model card that a run writes: what it is, its data, how good it is, limits and cost."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cislens import __version__
from cislens.models.card import BEGIN, END, Card, Judgement, Score, plain, table
from cislens.recipes.schema import Source, TrainRecipe

_STORES = {
    "profile": "profile store", "multimodal": "region store", "masked": "sequence store",
    "distillation": "sequence store", "mixture": "stores",
}  # fmt: skip
_TASKS = {
    "profile": "profile-prediction", "multimodal": "region-representation",
    "masked": "masked-base-prediction", "distillation": "self-distillation",
    "mixture": "representation-learning",
}  # fmt: skip
_PAPERS = {
    "space": "Yang et al., SPACE, ICML 2025",
    "genebert": "GeneBERT, arXiv 2110.05231",
    "findna": "Yu, Cheng, Khalitov, Olsson and Yang, Neural Networks 183 (2025) 106978, "
    "arXiv 2405.08538",
}
_CHOSEN_ON = (
    "The weights were chosen on this part, so these values are better than those on new windows. "
    "For a held-out part run `cislens evaluate` or `cislens bench`, then `cislens model card RUN "
    "--judged FOLDER`."
)


def model_card(
    recipe: TrainRecipe, manifest: Mapping[str, Any], title: str, about: str, data: str
) -> str:
    """The model card.

    Args:
        about: what it is, Markdown; data: what it was trained on, Markdown.
    """
    name = str(manifest["objective"])
    meta = {
        "library_name": "cislens",
        "license": "unknown",
        "tags": list(dict.fromkeys(["biology", "genomics", "dna", "cislens", name])),
    }
    body = f"""# cislens {title}

Trained by cislens {__version__} ({_origin(recipe, manifest)},
{manifest["ledger"]["parameters"]:,} parameters, {recipe.training.steps} steps of
{recipe.training.batch_size} windows, seed {recipe.seed}).

## Use
```python
import cislens

model = cislens.load_model("path/of/this/folder")
```

## What it is
{about}

## Data
{data}

{_sources(recipe.sources)}

## Scores
{BEGIN}
{END}

## Limits
{_limits(manifest)}

## Cost
{_cost(manifest)}

## Validation
{_validation(manifest)}

## Citation
{_citation(manifest)}
"""
    return Card(meta, body).judged([_valid(name, manifest)]).text()


def _origin(recipe: TrainRecipe, manifest: Mapping[str, Any]) -> str:
    if ancestor := manifest.get("ancestor"):
        return f"trained further from weights `{ancestor['digest']}`, freeze {recipe.freeze}"
    return f"model {plain(recipe.model)}"


def _sources(sources: Sequence[Source]) -> str:
    """Where the data come from and under which licenses."""
    if not sources:
        return (
            "The recipe names no sources, so the licenses of the data are not known here: "
            "`sources` of the recipe lists them."
        )
    rows = [(each.data, each.source, each.licence) for each in sources]
    return table(("data", "source", "license"), rows)


def _validation(manifest: Mapping[str, Any]) -> str:
    chosen = manifest["selection"]["metric"]
    how = "the last ones" if chosen is None else f"chosen by {chosen} on the validation part"
    rows = [
        (name, "not measured" if value is None else f"{value:.4f}")
        for name, value in sorted(manifest["valid"].items())
    ]
    return (
        f"Weights of step {manifest['selection']['step']}, {how}. The test part was not read.\n\n"
        f"{table(('metric', 'value'), rows)}"
    )


def _valid(name: str, manifest: Mapping[str, Any]) -> Judgement:
    """What the log of the run shows of its validation."""
    selection = manifest["selection"]
    metrics = [each for each in (selection["metric"], *selection["headline"]) if each]
    known, blocks = manifest.get("valid_intervals", {}), manifest.get("valid_blocks", {})
    scores = [
        Score(metric.partition("/")[2] or "all", metric.partition("/")[0], value, *bounds)
        for metric, value in sorted(manifest["valid"].items())
        if metric in metrics or metric.partition("/")[0] in metrics
        if value is not None and math.isfinite(value)
        for bounds in [known.get(metric, ())]
    ]
    digest = manifest["store"]["digest"]
    notes = [_CHOSEN_ON]
    if known:
        counted = ", ".join(f"{count} of {species}" for species, count in blocks.items())
        notes.append(
            f"Intervals: blocks of windows ({counted}) are left out one by one. The noise of "
            "training is not in them; a score that is not a matter of single blocks has none."
        )
    return Judgement(_TASKS[name], _STORES[name], digest, "valid", scores, notes)


def _limits(manifest: Mapping[str, Any]) -> str:
    lines = [
        "It knows the genomes, tracks and cell types under Data. What it says of another species, "
        "assay or cell type has not been judged.",
        "It was trained on windows of one length, given above; longer contexts were never seen.",
        "It was trained on reference assemblies or on the haplotypes named under Data. Effects of "
        "variants are not judged unless they are listed under Scores.",
        "The test part of its store was not read. Other data may hold the windows that it was "
        "trained on: `cislens audit` looks for them.",
        "It is for research. It must not be used for diagnosis, treatment or any other decision "
        "about a person.",
    ]
    share = manifest["valid"].get("rankme_share")
    if share is not None:
        lines.insert(
            3,
            f"The effective rank of its embeddings on validation is {share:.3f} of their size; "
            "near 0 all sequences would look alike (collapse).",
        )
    return "\n".join(f"- {line}" for line in lines)


def _cost(manifest: Mapping[str, Any]) -> str:
    ledger = manifest["ledger"]
    rows = [
        ("parameters (trained)", f"{ledger['parameters']:,} ({ledger['trained_parameters']:,})"),
        ("windows", f"{ledger['windows']:,}"),
        ("bases", f"{ledger['bases']:,}"),
        ("floating-point operations", f"{ledger['flops']:.3g}"),
        ("devices", f"{ledger['devices']} x {manifest['device']}"),
    ]
    return table(("what", "how much"), rows)


def _citation(manifest: Mapping[str, Any]) -> str:
    known = _kinds(manifest["model"])
    papers = [paper for name, paper in _PAPERS.items() if any(name in kind for kind in known)]
    idea = f", and what its shape comes from: {'; '.join(papers)}" if papers else ""
    return f"Cite cislens by its citation file (CITATION.cff){idea}."


def _kinds(config: Any) -> set[str]:
    """Every `kind` in a configuration."""
    if isinstance(config, Mapping):
        here = {str(config["kind"])} if "kind" in config else set()
        return here.union(*(_kinds(value) for value in config.values()))
    return set()
