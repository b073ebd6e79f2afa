import logging

import polars as pl
import pytest

from cislens.signal.build import build_profile_store
from cislens.signal.groups import group_audit, group_of, parse_description
from cislens.signal.tracks import Track, read_tracks, track_table

# Of the published target tables; the published grouping of the same rows is another one.
PUBLISHED = {
    "human": ({"accessibility": 684, "CAGE": 638, "histone": 1998, "TF": 1993}, 120),
    "mouse": ({"accessibility": 228, "CAGE": 357, "histone": 750, "TF": 308}, 68),
}


@pytest.mark.parametrize("species", PUBLISHED)
def test_the_published_tables_have_these_groups_and_every_chip_row_is_listed(core_data, species):
    table = core_data / "basenji_tfrecords" / f"enformer_basenji2_targets_{species}.txt.gz"
    tracks = read_tracks(table, species=species)
    groups, unknown = PUBLISHED[species]
    audit = group_audit(tracks)
    assert dict(audit["group"].value_counts().iter_rows()) == groups
    assert audit["target_unknown"].sum() == unknown
    assert audit["id"].to_list() == tracks.frame["id"].to_list()
    chip = audit.filter(assay="CHIP")
    assert chip.height == groups["histone"] + groups["TF"]
    decided = chip.select(pl.col("rule").str.contains("CHIP")).to_series()
    assert decided.all()
    assert (chip.filter("target_unknown")["group"] == "TF").all()


@pytest.mark.parametrize(
    ("assay", "target", "group"),
    [
        ("DNASE", "", "accessibility"),
        ("ATAC-seq", "", "accessibility"),
        ("CAGE", "", "CAGE"),
        ("CHIP", "H3K4me3", "histone"),
        ("ChIP-exo", "H2AFZ", "histone"),
        ("CHIP", "H4K20me1", "histone"),
        ("CHIP", "HNF4A", "TF"),
        ("CHIP", "H1", "TF"),
        ("CHIP", ".", "TF"),
        ("CHIP", "", "TF"),
        ("STRIPE", "", "STRIPE"),
        ("unknown", "", "unknown"),
    ],
)
def test_the_group_follows_from_assay_and_target(assay, target, group):
    assert group_of(assay, target).group == group
    assert track_table([Track("a", "f", "y", assay=assay, target=target)]).rows()[0].group == group


def test_a_group_that_was_given_stays_and_the_audit_says_so():
    rows = [
        Track("a", "f", "y", assay="CHIP", target="CTCF", group="insulator"),
        Track("b", "f", "y", assay="CHIP", target="CTCF", group="TF"),
    ]
    audit = group_audit(track_table(rows))
    assert audit["group"].to_list() == ["insulator", "TF"]
    assert audit["rule"].to_list() == ["given", "assay CHIP*, other target"]


def test_descriptions_of_basenji_are_taken_apart():
    assert parse_description("CHIP:H3K4me3:K562 G1 phase") == {
        "assay": "CHIP", "target": "H3K4me3", "biosample": "K562 G1 phase",
    }  # fmt: skip
    assert parse_description("CAGE:bone:cell line: X") == {
        "assay": "CAGE", "biosample": "bone:cell line: X",
    }  # fmt: skip
    assert parse_description("CHIP:.:liver")["target"] == "."
    assert parse_description("no assay here") == {}


def test_an_assay_beyond_the_rule_is_its_own_group_and_told_once(tmp_path, caplog):
    path = tmp_path / "tracks.tsv"
    path.write_text(
        "id\tfile\tspecies\tassay\tgroup\n"
        "a\tf\ty\tSTRIPE\t\nb\tf\ty\tSTRIPE\t\nc\tf\ty\tRNA\texpression\nd\tf\ty\tATAC\t\n"
    )
    with caplog.at_level(logging.INFO, logger="cislens"):
        tracks = read_tracks(path)
    assert [t.group for t in tracks.rows()] == ["STRIPE", "STRIPE", "expression", "accessibility"]
    told = [r.getMessage() for r in caplog.records if "no group is known" in r.getMessage()]
    assert len(told) == 1
    assert "['STRIPE']" in told[0]


def test_a_store_keeps_the_audit_of_its_groups(toy):
    store = build_profile_store(toy.folder / "store", toy.genomes, toy.tracks, **toy.settings)
    lines = (store.path / "species" / "toy" / "groups.tsv").read_text().splitlines()
    assert lines[0].split("\t") == ["id", "assay", "target", "group", "rule", "target_unknown"]
    assert [line.split("\t")[:4] for line in lines[1:]] == [
        [name, "TEST", "", "TEST"] for name in ("plus", "minus", "atac")
    ]
    assert "species/toy/groups.tsv" in store.manifest["files"]
