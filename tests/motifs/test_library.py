import sys

import numpy as np
import pytest

from cislens.errors import CislensError, MissingFileError
from cislens.example import example_path
from cislens.motifs import library
from cislens.motifs.library import motifs_digest, read_library
from cislens.motifs.sites import Motif, read_meme

COUNTS = ">a_HUMAN.H11MO.0.A\n3 1 0 0\n0 0 2 2\n>b\n1 1 1 1\n"


def test_the_bundled_jaspar_is_its_meme_file():
    held = read_library("JASPAR2026:CORE:fungi")
    file = read_library(str(example_path("motifs/JASPAR2026_CORE_fungi.meme.gz")))
    assert [m.id for m in held.motifs] == sorted(m.id for m in file.motifs)
    by_id = {m.id: m for m in file.motifs}
    for motif in held.motifs:
        # The file has six decimals.
        assert motif.name == by_id[motif.id].name
        assert np.abs(motif.probabilities_W4 - by_id[motif.id].probabilities_W4).max() < 2e-6
    assert held.release.startswith("JASPAR2026 in pyjaspar ")
    assert (file.source, file.release) == ("JASPAR2026_CORE_fungi.meme.gz", "")


@pytest.mark.parametrize(("year", "profiles", "names"), [(2026, 1019, 964), (2020, 746, 746)])
def test_a_release_has_as_many_profiles_as_published(year, profiles, names):
    found = read_library(f"JASPAR{year}:CORE:vertebrates").motifs
    assert len(found) == len({motif.id for motif in found}) == profiles
    assert len({motif.name.split()[-1] for motif in found}) == names
    if year == 2026:
        assert sum(len(motif.factors) > 1 for motif in found) == 77
    assert all(np.allclose(motif.probabilities_W4.sum(1), 1) for motif in found)


def test_counts_become_shares(tmp_path):
    path = tmp_path / "counts.pfm"
    path.write_text(f"# a comment\n{COUNTS}")
    first, second = read_library(str(path)).motifs
    assert first.probabilities_W4.tolist() == [[0.75, 0.25, 0, 0], [0, 0, 0.5, 0.5]]
    assert (first.factors, second.id) == (("A",), "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (COUNTS.replace("0 0 2 2", "0 0 2"), r"bad.pfm line 3: '0 0 2' is not four counts"),
        (COUNTS.replace("0 0 2 2", "0 0 0 0"), r"line 3: '0 0 0 0' is not four counts"),
        (COUNTS.replace("0 0 2 2", "0 0 -2 2"), r"line 3: '0 0 -2 2' is not four counts"),
        (COUNTS.replace("0 0 2 2", "0 0 nan 2"), r"line 3: '0 0 nan 2' is not four counts"),
        (COUNTS + ">c\n", r"line 6: motif 'c' has no name or no rows"),
        (COUNTS + ">b\n1 1 1 1", r"line 6: a second motif 'b', the first is on line 4"),
        ("", "holds no motif"),
    ],
)
def test_a_broken_file_of_counts_is_refused_with_its_line(tmp_path, text, message):
    path = tmp_path / "bad.pfm"
    path.write_text(text)
    with pytest.raises(CislensError, match=message):
        read_library(str(path))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("JASPAR2025:CORE:fungi", "holds no release 'JASPAR2025'. Did you mean 'JASPAR2026'"),
        ("JASPAR2026:CORE:fungus", "holds no 'fungus'. Did you mean 'fungi'"),
        ("JASPAR2026:COR:fungi", "holds no 'COR'. Did you mean 'CORE'"),
        ("JASPAR2026", "neither a file nor <release>:<collection>:<taxon>"),
    ],
)
def test_an_unknown_library_is_refused_with_the_nearest(spec, message):
    with pytest.raises(CislensError, match=message):
        read_library(spec)


def test_a_missing_file_or_package_is_told(monkeypatch, tmp_path):
    with pytest.raises(MissingFileError, match=r"motif file .* does not exist"):
        read_library(str(tmp_path / "none.meme"))
    monkeypatch.setitem(sys.modules, "pyjaspar", None)
    library._jaspar.cache_clear()
    with pytest.raises(CislensError, match=r"pip install 'cislens\[multimodal\]'"):
        read_library("JASPAR2026:CORE:fungi")


def test_the_digest_changes_with_a_name_a_number_and_the_order():
    motifs = read_meme(example_path("motifs/JASPAR2026_CORE_fungi.meme.gz"))[:3]
    renamed = [Motif("other", motifs[0].probabilities_W4), *motifs[1:]]
    turned = [motifs[0].reverse_complement(), *motifs[1:]]
    digests = [motifs_digest(m) for m in (motifs, renamed, turned, motifs[::-1])]
    assert len(set(digests)) == 4 and motifs_digest(list(motifs)) == digests[0]
