"""Streaming metrics of multi-modal pre-training against their definitions."""

from collections.abc import Iterable

import numpy as np
import pytest
import torch
from loci import context
from sklearn.metrics import r2_score, roc_auc_score
from torch import Tensor

from cislens.objectives.multimodal import metrics as module
from cislens.objectives.multimodal.matching import gc_gap
from cislens.objectives.multimodal.metrics import (
    MultimodalMetrics,
    Pairs,
    Retrieval,
    best_accuracy,
)
from cislens.objectives.multimodal.regions import asked_regions, neighbor_mean

Batch = dict[str, Tensor]


def random_batch(seed: int, loci: int = 8) -> Batch:
    """Predictions of all terms; those of values are the values plus noise of half their size."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng)

    around = context(loci, seed=seed)
    hidden, access_hidden = asked_regions(around)
    own = torch.arange(2 * loci) < loci
    return {
        "masked/logits": normal(loci, 20, 4),
        "masked/target": torch.randint(0, 4, (loci, 20), generator=rng, dtype=torch.uint8),
        "masked/scored": torch.rand(loci, 20, generator=rng) < 0.2,
        "next/logits": normal(loci, 2),
        "next/target": torch.randint(0, 2, (loci,), generator=rng),
        "match/logits": normal(2 * loci) + own,
        "match/own": own,
        "match/gap": (normal(2 * loci).abs() * 0.1).where(~own, 0.0),
        "contrast/like": normal(loci, loci) + torch.eye(loci),
        "contrast/apart": torch.rand(loci, loci, generator=rng) < 0.8,
        "regions/predicted": around.motif_BRT + 0.5 * normal(loci, 6, 5),
        "regions/value": around.motif_BRT,
        "regions/asked": hidden,
        "regions/seen": ~hidden & ~around.pad_BR,
        "regions/access_predicted": (around.access_BR + 0.5 * normal(loci, 6))[:, :, None],
        "regions/access_value": around.access_BR[:, :, None],
        "regions/access_asked": access_hidden,
        "regions/access_seen": ~access_hidden & ~around.pad_BR,
        "regions/offset": around.offset_BR,
        "motifs/predicted": normal(loci, 5),
        "motifs/value": normal(loci, 5) + torch.arange(5),
    }


def streamed(batches: Iterable[Batch]) -> MultimodalMetrics:
    metrics = MultimodalMetrics()
    for each in batches:
        metrics.update(each, None)
    return metrics


BATCHES = [random_batch(seed) for seed in range(6)]


def joined(name: str, asked: str | None = None) -> np.ndarray:
    parts = [each[name] if asked is None else each[name][each[asked]] for each in BATCHES]
    return torch.cat(parts).double().numpy()


def test_r2_is_pooled_over_values_with_a_mean_per_column() -> None:
    """As scikit-learn's, with the columns weighted by their variances."""
    found = streamed(BATCHES).summary()
    for prefix in ("", "access_"):
        asked = f"regions/{prefix}asked"
        value = joined(f"regions/{prefix}value", asked)
        predicted = joined(f"regions/{prefix}predicted", asked)
        expected = r2_score(value, predicted, multioutput="variance_weighted")
        assert found[f"regions/{prefix}r2"] == pytest.approx(expected, abs=1e-9)
        around = [
            neighbor_mean(
                each[f"regions/{prefix}value"],
                each["regions/offset"],
                each[f"regions/{prefix}seen"],
            )[each[asked]]
            for each in BATCHES
        ]
        expected = r2_score(value, torch.cat(around), multioutput="variance_weighted")
        assert found[f"regions/{prefix}neighbor_r2"] == pytest.approx(expected, abs=1e-9)
    expected = r2_score(
        joined("motifs/value"), joined("motifs/predicted"), multioutput="variance_weighted"
    )
    assert found["motifs/r2"] == pytest.approx(expected, abs=1e-9)


def test_accuracies_and_auroc() -> None:
    found = streamed(BATCHES).summary()
    right = joined("masked/logits", "masked/scored").argmax(1) == joined(
        "masked/target", "masked/scored"
    )
    assert found["masked/accuracy"] == pytest.approx(right.mean())
    right = joined("next/logits").argmax(1) == joined("next/target")
    assert found["next/accuracy"] == pytest.approx(right.mean())
    own, logits = joined("match/own"), joined("match/logits")
    assert found["match/accuracy"] == pytest.approx(((logits > 0) == own).mean())
    assert found["match/auroc"] == pytest.approx(roc_auc_score(own, logits))
    assert found["match/gc_auroc"] == pytest.approx(roc_auc_score(own, -joined("match/gap")))


def test_merging_is_seeing_all_of_it() -> None:
    """To 1e-12, and where one of the two has seen nothing."""
    expected = streamed(BATCHES).summary()
    first, second = streamed(BATCHES[:2]), streamed(BATCHES[2:])
    first.merge(second)
    assert first.summary() == pytest.approx(expected, rel=1e-12)
    empty = MultimodalMetrics()
    empty.merge(first)
    empty.merge(MultimodalMetrics())
    assert empty.summary() == pytest.approx(expected, rel=1e-12)


def test_recall_and_chance_by_hand() -> None:
    like = torch.tensor([[3.0, 1.0, 9.0], [2.0, 1.0, 0.0], [5.0, 5.0, 5.0]])
    apart = torch.tensor([[0, 1, 0], [1, 0, 1], [1, 1, 0]]).bool()
    metric = Retrieval()
    metric.update(like, apart)
    # The first beats its only rival; the second is beaten; a tie is no find.
    assert metric.compute()["recall_at_1"] == pytest.approx(1 / 3)
    assert metric.compute()["chance"] == pytest.approx((1 / 2 + 1 / 3 + 1 / 3) / 3)
    alone = Retrieval()
    alone.update(torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.bool))
    assert np.isnan(alone.compute()["recall_at_1"]) and np.isnan(alone.compute()["chance"])


def gc_only(matched: bool, pairs: int = 4000) -> dict[str, float]:
    """Pairs of regions whose GC content is .48 +- .08; negatives of another GC, or within .02."""
    rng = torch.Generator().manual_seed(0)
    gc = 0.48 + 0.08 * torch.randn(pairs, generator=rng)
    other = gc + 0.02 * (2 * torch.rand(pairs, generator=rng) - 1)
    if not matched:
        other = gc[torch.randperm(pairs, generator=rng)]
    metric = Pairs()
    gap = torch.cat([gc_gap(gc, gc), gc_gap(gc, other)])
    metric.update(torch.zeros(2 * pairs), gap, torch.arange(2 * pairs) < pairs)
    return metric.compute()


def test_gc_content_alone_tells_random_pairs_and_not_matched_ones() -> None:
    matched, random = gc_only(matched=True), gc_only(matched=False)
    assert matched["gc_auroc"] == pytest.approx(0.5, abs=0.005)
    assert matched["gc_accuracy"] == pytest.approx(0.5, abs=0.005)
    assert random["gc_auroc"] > 0.9
    assert random["gc_accuracy"] > 0.85


def test_best_accuracy_is_that_of_the_best_of_all_thresholds() -> None:
    rng = np.random.default_rng(0)
    score, own = rng.normal(size=60).round(1).astype(np.float32), rng.random(60) < 0.3
    cuts = [-np.inf, *np.unique(score)]
    expected = max(((score > cut) == own).mean() for cut in cuts)
    assert best_accuracy(score, own) == pytest.approx(expected)


def test_scores_are_kept_of_so_many_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The accuracy counts all, what ranks pairs the first ones."""
    monkeypatch.setattr(module, "KEPT_PAIRS", 40)
    found = streamed(BATCHES)
    assert len(found.kinds["match/"].own_K) == 40
    own, logits = joined("match/own"), joined("match/logits")
    values = found.summary()
    assert values["match/accuracy"] == pytest.approx(((logits > 0) == own).mean())
    assert values["match/auroc"] == pytest.approx(roc_auc_score(own[:40], logits[:40]))
    first = streamed(BATCHES[:1])
    first.merge(streamed(BATCHES[1:]))
    assert first.summary() == pytest.approx(values)


def test_what_was_never_asked_is_nan() -> None:
    nothing = dict(BATCHES[0])
    for name in ("regions/asked", "regions/access_asked", "masked/scored"):
        nothing[name] = torch.zeros_like(nothing[name])
    values = streamed([nothing]).summary()
    for name in ("regions/r2", "regions/access_r2", "masked/accuracy"):
        assert np.isnan(values[name]), name
    assert "next/accuracy" in values
    assert not MultimodalMetrics().summary()
