import operator
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cislens.errors import CislensError
from cislens.signal.query import matching_tracks, select_tracks
from cislens.signal.tracks import Track, track_table

TABLE = track_table(
    [
        Track("a1", "a.bw", "human", "ATAC", biosample="K562 day 1", weight=1.0),
        Track("a2", "a.bw", "human", "ATAC", biosample="liver", weight=0.5),
        Track("c1", "a.bw", "human", "CHIP", target="CTCF", biosample="K562", scale=2.0),
        Track("c2", "a.bw", "human", "CHIP", target="H3K27ac", biosample='the "K562"'),
        Track("plus", "a.bw", "human", "CAGE", strand="+", strand_pair="minus"),
        Track("minus", "a.bw", "human", "CAGE", strand="-", strand_pair="plus"),
    ]
)
IDS = TABLE.frame["id"].to_list()


def ids(query: str) -> list[str]:
    return [IDS[place] for place in matching_tracks(TABLE, query)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ('assay == "ATAC" and biosample ~ "K562"', ["a1"]),
        ("assay=='ATAC'and biosample!='liver'", ["a1"]),
        ('biosample ~ "K562"', ["a1", "c1", "c2"]),
        ('biosample ~ "^K562$"', ["c1"]),
        ('biosample ~ "(?i)k562 \\w+ \\d"', ["a1"]),
        ('biosample == "the \\"K562\\""', ["c2"]),
        ('biosample !~ "K562|liver"', ["plus", "minus"]),
        ("weight < 1", ["a2"]),
        ("weight<=0.5 or scale>1", ["a2", "c1"]),
        ("weight > 5e-1 and scale >= 2.", ["c1"]),
        ("weight == 0.5", ["a2"]),
        ("clip == inf and scale != 1", ["c1"]),
        ('id in ("c2", "a1")', ["a1", "c2"]),
        ('assay not in ("ATAC", "CAGE")', ["c1", "c2"]),
        ('not assay == "ATAC" and not (target == "CTCF" or strand != ".")', ["c2"]),
        # `and` binds stronger than `or`.
        ('assay == "CAGE" or assay == "ATAC" and biosample == "liver"', ["a2", "plus", "minus"]),
        ('(assay == "CAGE" or assay == "ATAC") and biosample == "liver"', ["a2"]),
        ('strand in ("+")', ["plus"]),
    ],
)
def test_a_query_finds_the_tracks_it_describes(query: str, expected: list[str]) -> None:
    assert ids(query) == expected


def test_no_query_is_every_track() -> None:
    np.testing.assert_array_equal(matching_tracks(TABLE, None), np.arange(6))


def test_chosen_tracks_keep_their_pair_only_together() -> None:
    assert select_tracks(TABLE, 'assay == "CAGE"').strand_permutation().tolist() == [1, 0]
    alone = select_tracks(TABLE, 'id == "plus"')
    assert alone.rows()[0].strand_pair == ""
    assert alone.rows()[0].strand == "+"


@pytest.mark.parametrize(
    ("query", "character", "message"),
    [
        ('asay == "ATAC"', 1, "no column 'asay'. Did you mean 'assay'?\n"),
        ('assay = "ATAC"', 7, "write == here"),
        ('assay "ATAC"', 7, "expected one of =="),
        ("assay == ATAC", 10, "a text in quotes"),
        ('assay == "ATAC', 10, "quote is not closed"),
        ('weight < "1"', 10, "column 'weight' holds number"),
        ('weight ~ "1"', 8, "column 'weight' is a number"),
        ('assay < "B"', 7, "column 'assay' is text"),
        ('assay == "ATAC" and', 20, "expected a column"),
        ('(assay == "ATAC"', 17, "expected ')'"),
        ('assay == "ATAC") ', 16, "expected 'and', 'or' or the end"),
        ('assay == "ATAC" id == "a"', 17, "expected 'and', 'or' or the end"),
        ('assay in "ATAC"', 10, "expected '('"),
        ('assay in ("ATAC" "CHIP")', 18, "expected ',' or ')'"),
        ('assay not == "ATAC"', 11, "expected 'in'"),
        ('biosample ~ "K5(62"', 13, "not a regular expression"),
        ("", 1, "expected a column"),
        ("__import__('os')", 1, "no column '__import__'"),
    ],
)
def test_a_query_that_cannot_be_read_is_pointed_at(
    query: str, character: int, message: str
) -> None:
    with pytest.raises(CislensError, match=re.escape(message)) as caught:
        matching_tracks(TABLE, query)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"track query, character {character}:")
    assert lines[1] == f"  {query}"
    assert lines[2].index("^") - 2 == character - 1


def test_nothing_found_shows_the_nearest_of_every_compared_column() -> None:
    with pytest.raises(CislensError) as caught:
        matching_tracks(TABLE, 'assay == "ATAK" and biosample ~ "K56 2"')
    message = str(caught.value)
    assert "no track of 6 matches" in message
    assert "assay has 3 values, the nearest 'ATAC'" in message
    assert "biosample has 4 values, the nearest 'K562'" in message


def test_nothing_found_and_nothing_near_shows_what_there_is() -> None:
    with pytest.raises(CislensError, match="assay has 3 values, among them 'ATAC', 'CAGE', 'CHIP'"):
        matching_tracks(TABLE, 'assay == "zzzzzzzz"')


OPERATORS = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
atoms = st.tuples(
    st.sampled_from(["weight", "scale"]),
    st.sampled_from(list(OPERATORS)),
    st.sampled_from([0.5, 1.0, 2.0]),
)
trees = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner), st.tuples(st.sampled_from(["and", "or"]), inner, inner)
    ),
    max_leaves=6,
)


@given(tree=trees)
def test_nested_queries_mean_what_python_means(tree: tuple) -> None:  # type: ignore[type-arg]
    def text(node: tuple) -> str:  # type: ignore[type-arg]
        if node[0] == "not":
            return f"not ({text(node[1])})"
        if node[0] in ("and", "or"):
            return f"({text(node[1])}) {node[0]} ({text(node[2])})"
        return f"{node[0]} {node[1]} {node[2]}"

    def holds(node: tuple, row: Track) -> bool:  # type: ignore[type-arg]
        if node[0] == "not":
            return not holds(node[1], row)
        if node[0] in ("and", "or"):
            both = [holds(each, row) for each in node[1:]]
            return all(both) if node[0] == "and" else any(both)
        return bool(OPERATORS[node[1]](getattr(row, node[0]), node[2]))

    expected = [row.id for row in TABLE.rows() if holds(tree, row)]
    if expected:
        assert ids(text(tree)) == expected
    else:
        with pytest.raises(CislensError, match="no track of 6"):
            ids(text(tree))
