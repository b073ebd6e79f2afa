import pytest

from cislens.effects.attribution.target_parser import parse_target
from cislens.effects.attribution.targets import Bin, Difference, Log, Mean
from cislens.errors import CislensError
from cislens.signal.tracks import Track, track_table

TRACKS = track_table(
    [
        Track("k-atac", "1.bw", "human", assay="ATAC", biosample="K562"),
        Track("g-atac", "2.bw", "human", assay="ATAC", biosample="GM12878 (B, cell)"),
        Track("k-cage", "3.bw", "human", assay="CAGE", biosample="K562"),
    ]
)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("mean()", Mean),
        ("bin(,0)", Bin),
        (" log( bin( , -5 ) ) ", Log),
        ("difference(assay == 'ATAC', biosample ~ '(B, cell)')[-8:8]", Difference),
    ],
)
def test_words_name_a_target_and_are_kept(text, kind):
    target = parse_target(text, TRACKS)
    assert type(target) is kind
    assert target.text == text.strip()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected mean"),
        ("ATAC", "expected mean"),
        ("meen()", "no meen.*Did you mean 'mean'"),
        ('mean(assay == "ATAC"', "parenthesis is not closed"),
        ('mean(assay == "ATAC)', "quote is not closed"),
        ('mean(assay == "ATAC", 5)', "takes 1, found 2"),
        ('difference(assay == "ATAC")', "takes 2, found 1"),
        ('bin(assay == "ATAC", near)', "OFFSET is 'near'"),
        ("mean()[5]", r"after mean\(...\) stands '\[5\]'"),
        ("mean()[5:5]", "is empty"),
        ("bin(, 0)[0:5]", r"takes no \[START:END\]"),
        ("log(mean())[0:5]", r"takes no \[START:END\]"),
        ("log(difference(, ))", "never below 0"),
        ("log(log(mean()))", "never below 0"),
        ('mean(assay == "ATACS")', "ATAC"),
        ('mean(essay == "ATAC")', "assay"),
    ],
)  # fmt: skip
def test_what_is_no_target_is_refused(text, message):
    with pytest.raises(CislensError, match=message):
        parse_target(text, TRACKS)


def test_a_model_without_tracks_has_probes_only():
    with pytest.raises(CislensError, match=r"has no tracks; expected probe\(FILE.npz\)"):
        parse_target("mean()", None)
