"""The card of a run says its data with digests and licenses, its scores, limits and cost."""

import pytest

from cislens.models.card import Card
from cislens.motifs.store import RegionStore
from cislens.recipes.schema import Source, Training, TrainRecipe
from cislens.sequence.store import SequenceStore
from cislens.signal.store import ProfileStore
from cislens.training.card import model_card
from cislens.training.provenance import data_section


@pytest.fixture
def manifest(small_store: ProfileStore) -> dict[str, object]:
    return {
        "objective": "profile",
        "device": "CPU",
        "store": {"digest": small_store.digest},
        "selection": {"metric": "poisson_nll", "step": 4, "headline": ["pearson_pooled"]},
        "valid": {"poisson_nll": 0.5, "pearson_pooled/fly": 0.25, "z": 1.0, "poisson_nll/x": None},
        "model": {"encoder": {"kind": "space-plus"}},
        "ledger": {
            "parameters": 1000, "trained_parameters": 900, "windows": 80, "bases": 81920,
            "flops": 3e9, "devices": 1, "device_seconds": 2.5,
        },
    }  # fmt: skip


def test_a_card_says_all_of_it(small_store: ProfileStore, manifest: dict[str, object]) -> None:
    recipe = TrainRecipe(
        store=small_store.path,
        model="space-plus-tiny",
        training=Training(steps=10),
        sources=[Source(data="fly | genome", source="a sdist", licence="MIT")],
    )
    data = data_section(small_store.manifest)
    text = model_card(recipe, manifest, "profile model", "About.", data)
    card = Card.parse(text)
    fly = small_store.manifest["species"]["fly"]["inputs"]
    for digest in (fly["genome"]["sha256"], fly["windows"]["sha256"], fly["tracks"][0]["sha256"]):
        assert digest in card.body
    assert "| fly &#124; genome | a sdist | MIT |" in card.body
    assert "| parameters (trained) | 1,000 (900) |" in card.body
    assert "must not be used for diagnosis" in card.body
    assert "SPACE, ICML 2025" in card.body
    (result,) = card.meta["model-index"][0]["results"]
    assert result["dataset"]["revision"] == small_store.digest
    found = {(m["type"], m["args"]["of"]): m["value"] for m in result["metrics"]}
    assert found == {("poisson_nll", "all"): 0.5, ("pearson_pooled", "fly"): 0.25}
    silent = recipe.model_copy(update={"sources": []})
    text = model_card(silent, manifest, "profile model", "About.", data)
    assert "the licenses of the data are not known here" in text


def test_a_collapse_is_seen_in_the_limits(
    small_store: ProfileStore, manifest: dict[str, object]
) -> None:
    recipe = TrainRecipe(store=small_store.path, model="m", training=Training(steps=1))
    valid = {"rankme_share": 0.031}
    text = model_card(recipe, {**manifest, "valid": valid}, "model", "About.", "Data.")
    assert "on validation is 0.031 of their size" in text


def test_sequence_stores_name_genomes_and_split(sequence_store: SequenceStore) -> None:
    text = data_section(sequence_store.manifest)
    for species in ("yeast", "fly"):
        given = sequence_store.manifest["inputs"]["species"][species]["genome"]
        assert given["sha256"] in text
    assert sequence_store.manifest["plan_digest"] in text


@pytest.mark.slow
def test_region_stores_name_their_files(region_store: RegionStore) -> None:
    text = data_section(region_store.manifest)
    for entry in region_store.manifest["inputs"].values():
        assert entry["sha256"] in text
    assert region_store.constants_digest in text


def test_long_tables_of_tracks_are_cut_and_say_so() -> None:
    tracks = [{"id": f"t{number}", "sha256": "0"} for number in range(60)]
    text = data_section({"species": {"fly": {"inputs": {"tracks": tracks, "genome": None}}}})
    assert "| t49 |" in text
    assert "| t50 |" not in text
    assert "and 10 more in `data.json`." in text
