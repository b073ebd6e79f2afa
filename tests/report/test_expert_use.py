from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from cislens.errors import CislensError
from cislens.report.expert_use import expert_use_of
from cislens.report.figures.experts import information
from cislens.report.inputs import ExpertUse, ReportInput
from cislens.report.panels import expert_panels
from cislens.training.experts import SCHEMA


def rows_of(
    layer: str, species: str, group: str, shares: list[float], entropy: float
) -> list[tuple[object, ...]]:
    nats = None if species == group == "all" else 0.1
    return [
        (layer, species, group, expert, share, entropy, nats, 2)
        for expert, share in enumerate(shares)
    ]


ENCODER = [
    *rows_of("L1", "all", "all", [0.5, 0.5, 0.0], 0.9),
    *rows_of("L1", "yeast", "all", [1.0, 0.0, 0.0], 0.9),
    *rows_of("L1", "fly", "all", [0.0, 1.0, 0.0], 0.9),
    *rows_of("L2", "all", "all", [0.2, 0.2, 0.6], 0.4),
    *rows_of("L2", "yeast", "all", [0.2, 0.2, 0.6], 0.4),
    *rows_of("L2", "fly", "all", [0.2, 0.2, 0.6], 0.4),
]
DECODER = [
    *rows_of("decoder", "all", "all", [0.75, 0.25], 0.7),
    *rows_of("decoder", "yeast", "all", [0.5, 0.5], 0.7),
    *rows_of("decoder", "fly", "all", [1.0, 0.0], 0.7),
    *rows_of("decoder", "all", "TF", [1.0, 0.0], 0.7),
    *rows_of("decoder", "all", "CAGE", [0.0, 1.0], 0.7),
]


def table(rows: list[tuple[object, ...]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def test_a_table_gives_encoder_and_decoder_apart() -> None:
    use = expert_use_of(table(ENCODER + DECODER))
    assert use is not None
    assert use.decoder is not None
    assert (list(use.layers), list(use.species), list(use.groups)) == (
        ["L1", "L2"], ["yeast", "fly"], [],
    )  # fmt: skip
    np.testing.assert_array_equal(use.load_XE, [[0.5, 0.5, 0], [0.2, 0.2, 0.6]])
    np.testing.assert_array_equal(use.species_XSE[0], np.eye(3)[:2])
    assert list(use.entropy_X) == [0.9, 0.4]
    assert list(use.decoder.groups) == ["TF", "CAGE"]
    assert use.decoder.group_XGE is not None
    np.testing.assert_array_equal(use.decoder.group_XGE[0], np.eye(2))


def test_a_dense_model_has_no_use_and_a_dense_encoder_leaves_the_decoder() -> None:
    assert expert_use_of(table([])) is None
    use = expert_use_of(table(DECODER))
    assert use is not None
    assert list(use.layers) == ["decoder"]
    assert use.decoder is None


def test_information_of_rows_of_equal_weight() -> None:
    assert information(np.eye(2)) == pytest.approx(np.log(2))
    assert information(np.full((3, 4), 0.25)) == 0
    # Two species that drop a different one of four experts, and one that is absent.
    dropped = np.array([[1, 1, 1, 0], [1, 1, 0, 1], [0, 0, 0, 0]]) / 3
    assert information(dropped) == pytest.approx(0.231049, abs=1e-6)


def test_every_map_says_entropy_and_information(run: ReportInput) -> None:
    shown = replace(run, experts=expert_use_of(table(ENCODER + DECODER)))
    titles = [panel.title for panel in expert_panels(shown)]
    assert titles == [
        "Every layer",
        "Species in L1: entropy 0.90, information 0.693 nats",
        "Species in L2: entropy 0.40, information 0.000 nats",
        "Decoder",
        "Species in decoder: entropy 0.70, information 0.216 nats",
        "Groups in decoder: entropy 0.70, information 0.693 nats",
    ]
    assert expert_panels(replace(run, experts=None)) == []


def test_shares_of_groups_are_checked_too() -> None:
    load = np.array([[0.5, 0.5]])
    species = np.array([[[0.5, 0.5]]])
    with pytest.raises(CislensError, match="group_XGE must hold shares that sum to 1"):
        ExpertUse(["d"], ["yeast"], load, species, 1, groups=["TF"], group_XGE=species * 2)
    with pytest.raises(CislensError, match=r"group_XGE has shape \(1, 1, 2\)"):
        ExpertUse(["d"], ["yeast"], load, species, 1, groups=["TF", "CAGE"], group_XGE=species)
