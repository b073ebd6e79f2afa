"""What the arms know: never the answer, and what can be known of a new cell type."""

import copy
from dataclasses import replace

import numpy as np
import pytest
from planted import model_of

from cislens.errors import CislensError
from cislens.evaluation.cells import features as known
from cislens.evaluation.cells import scoring
from cislens.evaluation.cells.blind import require_blind
from cislens.evaluation.cells.examples import LEARNED, Candidates
from cislens.evaluation.cells.tables import within_cells
from cislens.models.genebert import multimodal
from cislens.motifs.contexts import Neighborhoods

KINDS = {
    "tokens": {},
    "swin": {"regions": {"kind": "swin"}},
    "mean": {"regions": {"kind": "mean"}},
}
SIMPLE = (known.composition, known.kmers, known.motifs, known.cell_mean, known.neighbors)


@pytest.fixture(scope="module")
def pairs(cell_store):
    candidates = Candidates(cell_store)
    parts = (*LEARNED, "new regions", "new cell types")
    return {part: candidates.draw(part, 3000, 0) for part in parts}


def auroc(scores, pairs):
    scored = within_cells(
        {"arm": [scores.astype(np.float32).reshape(-1, 1)]}, pairs, "auroc", 100, 0
    )
    return scored.value("arm").point


@pytest.mark.parametrize("kind", KINDS)
def test_models_are_not_told_what_they_are_asked(cell_store, pairs, kind, monkeypatch):
    model = model_of(cell_store, **KINDS[kind])

    def make(store):
        return known.joint(model, store, kind)

    for part in ("new regions", "new cell types"):
        require_blind(kind, make, pairs[part], cell_store)
    monkeypatch.setattr(multimodal, "without_center_access", lambda context: context)
    with pytest.raises(CislensError, match=f"{kind} knows how open region"):
        require_blind(kind, make, pairs["new regions"], cell_store)


def test_nor_are_simple_arms(cell_store, pairs):
    for make in SIMPLE:
        for part in pairs:
            require_blind(make.__name__, make, pairs[part], cell_store)
            assert len(make(cell_store)(pairs[part])) == len(pairs[part])


def test_planted_leaks_are_caught(cell_store, pairs, monkeypatch):
    asked = pairs["new cell types"]

    def hint(store):
        """A trace of the answer on top of honest features."""
        honest = known.neighbors(store)
        return lambda of: honest(of) + 1e-6 * store.access[of.row_N, of.cell_N][:, None]

    def everything(store):
        """The mean over all cell types, the one that is asked for too."""
        return lambda of: store.is_open[of.row_N].mean(1, keepdims=True).astype(np.float32)

    for leaky in (hint, everything):
        with pytest.raises(CislensError, match="which is what it is asked"):
            require_blind("leaky", leaky, asked, cell_store)

    class Uneven(Neighborhoods):
        """One region less around a closed one."""

        def around(self, row_B, cell_B, size, rng=None):
            found = super().around(row_B, cell_B, size, rng)
            closed = ~self.store.is_open[row_B, cell_B]
            found.row_BR[closed, -1] = -1
            return found

    monkeypatch.setattr("cislens.representations.joint.Neighborhoods", Uneven)
    model = model_of(cell_store)
    with pytest.raises(CislensError, match="which is what it is asked"):
        require_blind("uneven", lambda store: known.joint(model, store, "m"), asked, cell_store)


def test_neighbors_are_of_the_chromosome_and_the_part(cell_store, pairs):
    before = known.neighbors(cell_store)(pairs["new regions"])
    split = cell_store.regions["split"].to_numpy()
    foreign = cell_store.access.copy()
    foreign[split != "test"] += 100
    other = copy.copy(cell_store)
    other.__dict__ |= {"access": foreign, "is_open": cell_store.is_open}
    assert np.array_equal(before, known.neighbors(other)(pairs["new regions"]))


def test_who_knows_the_rule_tells_new_cell_types(cell_store, pairs):
    """Factors that are active: those whose sites are in what is open around.

    With the region's own motifs that gives an AUROC above .8 in cell types never seen; sequence
    alone, or other cell types, at most .75.
    """
    asked = pairs["new cell types"]
    around = Neighborhoods(cell_store)
    context = around.context(around.around(asked.row_N, asked.cell_N, 48), asked.cell_N)
    beside = ~context.pad_BR & (context.offset_BR != 0)
    mean_NT = (context.motif_BRT * beside[:, :, None]).sum(1) / beside.sum(1)[:, None]
    own_NT = cell_store.motif_values(asked.row_N)
    background_T = cell_store.motif_values(np.arange(cell_store.regions.height)).mean(0)
    told = ((mean_NT - background_T) * own_NT).sum(1)
    assert auroc(told, asked) > 0.8
    learned = {part: pairs[part] for part in (*LEARNED, "new cell types")}
    for make in (known.motifs, known.cell_mean):
        features = make(cell_store)
        logits = scoring._logits({part: features(of) for part, of in learned.items()}, learned)
        assert auroc(logits["new cell types"], asked) < 0.75


def test_what_is_left_of_a_known_total_is_not_learned_from(cell_store, pairs):
    """An arm that knows how many training cell types are open at a region, beside the others.

    If only the pair's own cell type is left out of the others, the head learns to subtract. Told
    of other folds alone, it reads the values of new cell types no worse than without the total.
    """
    trained = (cell_store.cells["split"] == "train").to_numpy()
    total_R1 = cell_store.is_open[:, trained].mean(1, keepdims=True).astype(np.float32)
    asked = pairs["new cell types"]
    learned = {part: pairs[part] for part in (*LEARNED, "new cell types")}
    every = np.flatnonzero(trained)

    def left_out(of):
        others = trained & (np.arange(len(trained)) != of.cell_N[:, None])
        return (cell_store.is_open[of.row_N] * others).sum(1, keepdims=True) / others.sum(
            1, keepdims=True
        )

    def noisy(of):
        """The total as a sequence model might tell it."""
        noise = np.random.default_rng(0).normal(0, 0.02, (cell_store.regions.height, 1))
        return (total_R1 + noise)[of.row_N]

    naive = {part: np.hstack([left_out(of), noisy(of)]) for part, of in learned.items()}
    subtracts = auroc(scoring._logits(naive, learned)["new cell types"], asked)

    def of_fold(fold):
        features = known.cell_mean(cell_store, fold)
        return {part: features(of) for part, of in learned.items()}

    alone = scoring._by_folds(of_fold, learned, known.folds_of(cell_store))
    plain = auroc(alone["new cell types"], asked)
    assert len(every) == 8 and plain > 0.6
    assert subtracts < plain - 0.03
    fold_C = known.folds_of(cell_store)
    assert sorted(np.bincount(fold_C[fold_C >= 0])) == [2, 3, 3]
    for fold in range(3):
        told = of_fold(fold)["train"][:, 0]
        others = cell_store.is_open[:, (fold_C >= 0) & (fold_C != fold)].mean(1)
        np.testing.assert_allclose(told, others[learned["train"].row_N], atol=1e-6)


def test_telling_cell_types_apart_is_worth_nothing(cell_store, pairs):
    """A score of the cell type's share of open regions: .5, though over all pairs it is more."""
    asked = pairs["new regions"]
    is_open = cell_store.is_open.copy()
    is_open[:, :4] &= np.random.default_rng(0).random((len(is_open), 4)) < 0.3
    open_N = is_open[asked.row_N, asked.cell_N].astype(np.int64)
    uneven = replace(asked, open_N=open_N)
    noise = np.random.default_rng(1).normal(0, 1e-3, len(asked))
    score = is_open.mean(0)[asked.cell_N] + noise
    assert auroc(score, uneven) == pytest.approx(0.5, abs=0.05)
    together = replace(uneven, cell_N=np.zeros_like(asked.cell_N))
    assert auroc(score, together) > 0.6
