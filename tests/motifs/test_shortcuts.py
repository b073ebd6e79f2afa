"""Composition tells random pairs apart and matched ones not."""

import copy

import polars as pl
import pytest

from cislens.errors import CislensError
from cislens.motifs.loader import RegionLoader
from cislens.motifs.shortcuts import require_clean, shortcut_audit
from cislens.recipes.multimodal import MultimodalTerms

MATCH, NEXT = {"match": 1.0, "next": 0.0}, {"match": 0.0, "next": 1.0}


@pytest.fixture(scope="module")
def large(make_store):
    """Isochores of 10 kb whose GC content has a standard deviation of 0.12; 8,800 regions."""
    return make_store(chrom_size=2_000_000)


def audit_of(store, negatives, weights, batches=40):
    terms = MultimodalTerms(negatives=negatives, **weights)
    parts = (RegionLoader(store, part, 64, terms=terms) for part in ("train", "valid"))
    return shortcut_audit(*parts, batches)


def by_rule(audit):
    return dict(zip(audit["rule"], audit["auroc"], strict=True))


@pytest.mark.parametrize("weights", [MATCH, NEXT], ids=["match", "next"])
def test_random_pairs_are_told_apart_by_gc_and_matched_ones_are_not(large, weights):
    random = by_rule(audit_of(large, "random", weights))
    assert random["GC"] >= 0.7
    assert random["GC and CpG"] >= 0.7
    matched = by_rule(audit_of(large, "matched", weights))
    assert set(matched) == {"GC", "GC and CpG", "repeats"}
    assert max(matched.values()) <= 0.55


@pytest.mark.parametrize("weights", [MATCH, NEXT], ids=["match", "next"])
def test_repeats_are_matched_too(large, weights):
    """Regions are of repeats or not in stretches of 100 kb, at the same composition."""
    store = copy.copy(large)
    stretch = (pl.col("start") // 100_000 % 2).cast(pl.Float64)
    store.regions = store.regions.with_columns(repeat_fraction=stretch)
    assert by_rule(audit_of(store, "random", weights))["repeats"] >= 0.7
    assert by_rule(audit_of(store, "matched", weights))["repeats"] <= 0.55


def test_pairs_beyond_the_limit_are_refused(large, caplog):
    random = audit_of(large, "random", MATCH, batches=10)
    with pytest.raises(CislensError, match=r"match by GC with an AUROC of 0\.9\d"):
        require_clean(random)
    require_clean(random, refuse=False)
    assert "told by composition alone: match by GC" in caplog.text
    require_clean(audit_of(large, "matched", MATCH, batches=10))


def test_the_limit_allows_for_chance():
    def audit(auroc, pairs):
        return pl.DataFrame({"task": "next", "rule": "GC", "auroc": auroc, "pairs": pairs})

    require_clean(audit([0.58], [200]))  # a standard error of 0.04
    with pytest.raises(CislensError, match="next by GC"):
        require_clean(audit([0.58], [20_000]))
    with pytest.raises(CislensError, match="next by GC"):
        require_clean(audit([0.65], [200]))


def test_tasks_of_no_weight_are_not_audited(large):
    assert audit_of(large, "random", {"match": 1.0}, batches=4)["task"].unique().to_list() == [
        "match"
    ]
