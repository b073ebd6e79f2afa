"""A region store of a synthetic genome in which openness is sequence x cell type.

Every 400 bp a place holds sites of one or two of eight factors; each cell type has three active
factors, and a place is open in it exactly if it holds a site of one of them. So the open places
around tell which factors are active, and with the sequence that tells what is open: no cell type
has to have been seen before. Tests elsewhere load this file by its path.
"""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cislens.genome.codes import decode
from cislens.models.genebert.multimodal import MultimodalModel
from cislens.models.genebert.presets import multimodal_config
from cislens.models.saving import save_model
from cislens.motifs.build import build_regions
from cislens.motifs.store import RegionStore
from cislens.recipes.regions import RegionRecipe

SITES = (
    "TGACTCAT", "CACGTGAC", "GATAAGGA", "TTGCGCAA", "CCGGAAGT", "TAATTAGC", "AGGTCAAA", "GCCACGTA",
)  # fmt: skip
SPACING, WIDTH = 400, 64
TEST_CELLS = ("new1", "new2", "new3")


def active_factors(trained: int) -> dict[str, tuple[int, ...]]:
    """Three factors for each cell type, no two alike."""
    rng = np.random.default_rng(1)
    every = list(combinations(range(len(SITES)), 3))
    names = [f"cell{number}" for number in range(trained)] + list(TEST_CELLS)
    chosen = rng.permutation(len(every))[: len(names)]
    return {name: every[number] for name, number in zip(names, chosen, strict=True)}


def build(
    folder: Path,
    trained: int = 8,
    size: int = 160_000,
    listed: bool = False,
    random_open: float | None = None,
    **split: Any,
) -> RegionStore:
    """The store; `split` adds to the recipe's, e.g. `test_cells`.

    Args:
        listed: the places are given as regions; otherwise they are the peaks.
        random_open: instead of the rule, places are open at random with this chance.
    """
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    cells = active_factors(trained)
    peaks: dict[str, list[str]] = {name: [] for name in cells}
    places, genome = [], []
    for chrom in ("chrA", "chrB", "chrC"):
        codes = rng.integers(0, 4, size).astype(np.uint8)
        for start in range(SPACING, size - SPACING, SPACING):
            planted = rng.choice(len(SITES), int(rng.integers(1, 3)), replace=False)
            for number, factor in enumerate(planted.tolist()):
                at = start + 12 + 20 * number
                codes[at : at + 8] = ["ACGT".index(base) for base in SITES[factor]]
            line = f"{chrom}\t{start}\t{start + WIDTH}\tp"
            places.append(line)
            for name, active in cells.items():
                is_open = bool(set(active) & set(planted.tolist()))
                if random_open is not None:
                    is_open = rng.random() < random_open
                if is_open:
                    peaks[name].append(f"{line}\t{rng.integers(100, 900)}")
        genome.append(f">{chrom}\n{decode(codes)}\n")
    (folder / "toy.fa").write_text("".join(genome))
    (folder / "regions.bed").write_text("".join(f"{line}\n" for line in places))
    (folder / "motifs.meme").write_text(_meme())
    for name, lines in peaks.items():
        (folder / f"{name}.bed").write_text("".join(f"{line}\n" for line in lines))
    split.setdefault("test_cells", list(TEST_CELLS))
    recipe = RegionRecipe.model_validate(
        {
            "genome": folder / "toy.fa",
            "cells": {name: {"peaks": folder / f"{name}.bed"} for name in cells},
            "regions": folder / "regions.bed" if listed else None,
            "width": WIDTH, "margin": 4, "motifs": str(folder / "motifs.meme"),
            "archetypes": "none",
            "split": {"fractions": {"train": 0.6, "valid": 0.15, "test": 0.25}, **split},
        }
    )  # fmt: skip
    return build_regions(recipe, folder / "store")


def model_of(store: RegionStore, seed: int = 0, **changes: Any) -> MultimodalModel:
    """A small untrained model for the store."""
    torch.manual_seed(seed)
    shape: dict[str, Any] = {
        "encoder": {"dim": 16, "depth": 1, "heads": 2},
        "regions": {"dim": 16, "depth": 1, "heads": 2},
        "joint_dim": 16,
        **changes,
    }
    config = multimodal_config(
        "genebert-plus-tiny", store.motif_ids, store.width, 16, False, store.constants_digest,
        **shape,
    )  # fmt: skip
    return MultimodalModel(config).eval()


def run_of(folder: Path, model: MultimodalModel) -> Path:
    """The model as a model folder, of which nothing else is known."""
    save_model(model, folder / "model", "# untrained\n")
    return folder / "model"


def _meme() -> str:
    text = "MEME version 4\n\nALPHABET= ACGT\n\n"
    for number, word in enumerate(SITES):
        rows = "".join(
            " ".join("0.91" if base == at else "0.03" for base in "ACGT") + "\n" for at in word
        )
        text += f"MOTIF M{number} F{number}\nletter-probability matrix: alength= 4 w= 8\n{rows}\n"
    return text
