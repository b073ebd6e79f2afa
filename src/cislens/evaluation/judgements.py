"""What an evaluation or a bench found of one model, for its card."""

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from cislens.errors import CislensError
from cislens.evaluation.contestants import run_representation
from cislens.evaluation.profiles.tables import BEST
from cislens.files import file_digest, read_json, read_parquet, require_file, undamaged
from cislens.models.card import Judgement, Score
from cislens.recipes.reading import read_recipe
from cislens.recipes.schema import BenchRecipe

_OUTCOMES = {"none": "no difference found"}
_DIFFERENCE = re.compile(r" \(diff [^)]*\)")  # which has columns of its own


def judgements_of(model: Path, judged: Path) -> list[Judgement]:
    """Scores of the model of a folder, with intervals, in a folder of `evaluate` or `bench`.

    Args:
        model: model folder.
        judged: folder that the verb wrote.

    Raises:
        MissingFileError: if `judged` does not exist.
        CislensError: if it is neither, is not finished, or holds nothing of these very weights.
    """
    require_file(judged, "folder of an evaluation or a bench")
    for name, read in _READERS.items():
        if (judged / name).exists():
            with undamaged("evaluation", judged):
                return read(model, judged)
    raise CislensError(
        f"{judged} has none of {', '.join(_READERS)}; name a finished folder of `cislens evaluate` "
        "or `cislens bench`."
    )


def _profiles(model: Path, judged: Path) -> list[Judgement]:
    facts, notes, arm, seeds = _facts(model, judged)
    scores = read_parquet(judged / "profiles.parquet", "table of the evaluation")
    differences = read_parquet(judged / "differences.parquet", "table of the evaluation")
    against = {
        (row["species"], row["group"], row["metric"]): row
        for row in differences.filter(arm=arm, comparison=BEST).iter_rows(named=True)
    }
    mine = scores.filter(pl.col("seed").is_null(), arm=arm, track="all")
    found = []
    for row in mine.iter_rows(named=True):
        other = against.get((row["species"], row["group"], row["metric"]))
        of = f"{row['species']}, {row['tracks']} tracks" + (
            "" if row["group"] == "all" else f" ({row['group']})"
        )
        said = None if other is None else _OUTCOMES.get(other["outcome"], other["outcome"])
        found.append(_score(of, row, "value", other, said))
    return [
        Judgement(
            "profile-prediction", "profile store", facts["store"]["digest"], facts["split"], found,
            [*notes, *seeds],
        )
    ]  # fmt: skip


def _cells(model: Path, judged: Path) -> list[Judgement]:
    facts, notes, arm, seeds = _facts(model, judged)
    scores = read_parquet(judged / "cells.parquet", "table of the evaluation")
    return [
        Judgement(
            "accessibility-prediction", "region store", facts["store"]["digest"], str(part[0]),
            [_score("pairs of region and cell type", row, "value")
             for row in mine.iter_rows(named=True)],
            [*notes, *seeds],
        )
        for part, mine in scores.filter(arm=arm).group_by("part", maintain_order=True)
    ]  # fmt: skip


def _bench(model: Path, judged: Path) -> list[Judgement]:
    recipe = read_recipe(judged / "recipe.yaml", BenchRecipe)
    names = [name for name in recipe.runs if _is_arm(model, judged, name)]
    if not names:
        raise _stranger(model, judged, recipe.runs)
    verdicts = read_parquet(judged / "verdicts.parquet", "table of the bench")
    found, notes, digests = [], [], []
    for row in verdicts.filter(arm=names[0], comparison="onehot").iter_rows(named=True):
        said = _DIFFERENCE.sub("", row["verdict"])
        found.append(_score(row["task"], row, "point", row, said))
        notes.append(
            f"{row['task']}: {row['n_test']:,} test examples in {row['blocks']} blocks; heads of "
            f"{row['seeds']} seeds, one training run of the encoder."
        )
        digests.append(file_digest(judged / "results" / "tasks" / row["task"] / "card.yaml"))
    digest = hashlib.sha256("".join(digests).encode()).hexdigest()
    return [Judgement("frozen-features", "tasks", digest, "test", found, notes)]


_READERS: dict[str, Callable[[Path, Path], list[Judgement]]] = {
    "profiles.parquet": _profiles,
    "cells.parquet": _cells,
    "verdicts.parquet": _bench,
}


def _facts(model: Path, judged: Path) -> tuple[dict[str, Any], list[str], str, list[str]]:
    """Facts and notes of an evaluation, the model's arm, and what to say of its seeds."""
    stored = read_json(judged / "evaluation.json", "facts of the evaluation")
    facts: dict[str, Any] = stored["facts"]
    digest = file_digest(model / "model.safetensors")
    arm = next((name for name, each in facts["weights"].items() if digest in each), None)
    if arm is None:
        raise _stranger(model, judged, facts["weights"])
    runs = len(facts["weights"][arm])
    several = f"Means over {runs} runs with other seeds, of which this model is one."
    return facts, stored["notes"], arm, [several] * (runs > 1)


def _is_arm(model: Path, judged: Path, name: str) -> bool:
    """Whether an arm of a bench read these very weights."""
    records = sorted((judged / "results" / "results").glob(f"*/{name}/seed*/record.parquet"))
    if not records or model.name != "model":
        return False
    known = read_parquet(records[0], "record of the bench")["digest"].to_list()
    return run_representation(model.parent, name).digest in known


def _stranger(model: Path, judged: Path, arms: Mapping[str, object]) -> CislensError:
    return CislensError(
        f"{judged} judged {', '.join(arms) or 'no run'}, and none of them has the weights of "
        f"{model}; judge this model first."
    )


def _score(
    of: str,
    row: Mapping[str, Any],
    value: str,
    other: Mapping[str, Any] | None = None,
    said: str | None = None,
) -> Score:
    versus, difference = None, None
    if other is not None and other["difference"] is not None:
        versus = str(other["baseline"])
        difference = (other["difference"], other["diff_low"], other["diff_high"])
    return Score(of, row["metric"], row[value], row["low"], row["high"], versus, difference, said)
