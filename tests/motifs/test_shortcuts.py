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
    """Rule -> its AUROC in the part where it is smallest and where it is largest."""
    grouped = audit.group_by("rule").agg(low=pl.col("auroc").min(), high=pl.col("auroc").max())
    return {row["rule"]: row for row in grouped.iter_rows(named=True)}


@pytest.mark.parametrize("weights", [MATCH, NEXT], ids=["match", "next"])
def test_random_pairs_are_told_apart_by_gc_and_matched_ones_are_not(large, weights):
    random = by_rule(audit_of(large, "random", weights))
    assert random["GC"]["low"] >= 0.7
    assert random["GC and CpG"]["low"] >= 0.7
    matched = by_rule(audit_of(large, "matched", weights))
    assert set(matched) == {"GC", "GC and CpG", "repeats"}
    assert max(row["high"] for row in matched.values()) <= 0.55


@pytest.mark.parametrize("weights", [MATCH, NEXT], ids=["match", "next"])
def test_repeats_are_matched_too(large, weights):
    """Regions are of repeats or not in stretches of 100 kb, at the same composition."""
    store = copy.copy(large)
    stretch = (pl.col("start") // 100_000 % 2).cast(pl.Float64)
    store.regions = store.regions.with_columns(repeat_fraction=stretch)
    assert by_rule(audit_of(store, "random", weights))["repeats"]["low"] >= 0.7
    assert by_rule(audit_of(store, "matched", weights))["repeats"]["high"] <= 0.55


def test_pairs_beyond_the_limit_are_refused(large, caplog):
    random = audit_of(large, "random", MATCH, batches=10)
    with pytest.raises(CislensError, match=r"match by GC with an AUROC of 0\.9\d"):
        require_clean(random)
    require_clean(random, refuse=False)
    assert "told apart by composition alone: match by GC" in caplog.text
    require_clean(audit_of(large, "matched", MATCH, batches=10))


def one_rule(auroc, pairs, part="train"):
    row = {"task": "next", "part": part, "rule": "GC", "auroc": auroc, "pairs": pairs}
    return pl.DataFrame([row])


def test_the_limit_allows_for_chance():
    require_clean(one_rule(0.58, 200))  # a standard error of 0.04
    with pytest.raises(CislensError, match="next by GC"):
        require_clean(one_rule(0.58, 20_000))
    with pytest.raises(CislensError, match="next by GC"):
        require_clean(one_rule(0.65, 200))


def test_of_validation_pairs_it_only_warns(caplog):
    require_clean(one_rule(0.9, 200, "valid"))
    assert "valid pairs can be told apart by composition alone: next by GC" in caplog.text


def test_both_terms_at_once_are_matched(large):
    audit = audit_of(large, "matched", {"match": 1.0, "next": 1.0})
    assert audit["task"].to_list() == ["match"] * 6 + ["next"] * 6
    assert audit["auroc"].max() <= 0.55


def test_tasks_of_no_weight_are_not_audited(large):
    assert audit_of(large, "random", {"match": 1.0}, batches=4)["task"].unique().to_list() == [
        "match"
    ]
