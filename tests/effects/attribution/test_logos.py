from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from cislens.effects.attribution.logos import strongest, write_logo
from cislens.errors import CislensError
from cislens.genome.codes import encode, one_hot


def contributions(sequence: str, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return one_hot(encode(sequence)) * rng.normal(size=len(sequence)).astype(np.float32)


def test_the_stretch_lies_around_the_strongest_spot_whatever_its_sign() -> None:
    values = np.zeros(1000, np.float32)
    values[100:110] = 1
    values[600:610] = -2
    start, strength = strongest(values, 100)
    assert strength == 20
    assert start <= 590
    assert start + 100 >= 620


@pytest.mark.parametrize(("at", "expected"), [(0, 0), (995, 900)])
def test_the_stretch_stays_inside_the_window(at: int, expected: int) -> None:
    values = np.zeros(1000, np.float32)
    values[at : at + 5] = 1
    assert strongest(values, 100)[0] == expected
    assert strongest(values[:50], 100)[0] == 0


def test_a_logo_is_svg_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    drawn = contributions("ACGTN" * 8)
    for name in ("a.svg", "b.svg"):
        write_logo(tmp_path / name, drawn, first=1000, title="peak_1 chr1:1,001-1,040")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    assert root.tag.endswith("svg")
    other = contributions("ACGTN" * 8, seed=1)
    write_logo(tmp_path / "c.svg", other, first=1000, title="peak_1 chr1:1,001-1,040")
    assert (tmp_path / "a.svg").read_bytes() != (tmp_path / "c.svg").read_bytes()


def test_a_logo_has_a_letter_for_each_base_and_none_for_an_n(tmp_path: Path) -> None:
    """A fifth letter adds one path to the drawing; an N adds none."""
    paths = []
    for sequence in ("ACGT", "ACGTA", "ACGTN"):
        write_logo(tmp_path / "a.svg", contributions(sequence), first=0, title="t")
        text = (tmp_path / "a.svg").read_text()
        # logomaker's classic colors: green, blue, orange, red.
        paths.append(
            sum(text.count(color) for color in ("#008000", "#0000ff", "#ffa600", "#ff0000"))
        )
    assert paths[0] == 4
    assert paths[1] - paths[0] == 1
    assert paths[2] == paths[0]


def test_what_has_no_height_or_another_shape_is_refused(tmp_path: Path) -> None:
    drawn = contributions("ACGT")
    drawn[0, 1] = np.nan
    with pytest.raises(CislensError, match="not finite"):
        write_logo(tmp_path / "a.svg", drawn, first=0, title="t")
    with pytest.raises(CislensError, match=r"shape \(4, L\)"):
        write_logo(tmp_path / "a.svg", drawn.T[:2], first=0, title="t")
    assert list(tmp_path.iterdir()) == []
