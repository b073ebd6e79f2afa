"""h5ad files: read back by anndata as they were given, of equal bytes, whole or not at all."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from cislens.errors import CislensError
from cislens.files import file_digest
from cislens.representations.h5ad import Annotated, Block, Matrix, write_h5ad

anndata = pytest.importorskip("anndata", reason="anndata of the extra `scverse` is missing")

X = np.arange(12, dtype=np.float32).reshape(4, 3)


def in_pieces() -> Iterator[Block]:
    yield X[:3]
    yield X[3:]


def table(**changed: object) -> Annotated:
    obs = pl.DataFrame(
        {"id": ["a", "b", "c", "d"], "start": [1, 2, 3, 4], "note/x": ["<b>", None, "=1+1", "y"]}
    )
    parts = {
        "obs": obs, "var": pl.DataFrame({"v": ["x", "y", "z"]}), "x": Matrix(3, in_pieces),
        "layers": {"sparse": sparse.csr_matrix(X % 2)},
        "obsm": {"X_other": Matrix(2, lambda: iter([X[:, :2] * 2]))},
        "varm": {"w": np.ones((3, 5), np.float32)}, "uns": {"of": {"n": 1, "none": None}},
    }  # fmt: skip
    return Annotated(**{**parts, **changed})


def test_anndata_reads_back_what_was_given(tmp_path: Path) -> None:
    for name in ("one.h5ad", "two.h5ad"):
        write_h5ad(table(), tmp_path / name)
    assert file_digest(tmp_path / "one.h5ad") == file_digest(tmp_path / "two.h5ad")
    found = anndata.read_h5ad(tmp_path / "one.h5ad")
    assert np.array_equal(found.X, X) and found.X.dtype == np.float32
    assert list(found.obs_names) == ["a", "b", "c", "d"]
    assert list(found.obs["start"]) == [1, 2, 3, 4]
    assert list(found.obs["note_x"]) == ["<b>", "", "=1+1", "y"]
    assert np.array_equal(found.layers["sparse"].toarray(), X % 2)
    assert np.array_equal(found.obsm["X_other"], X[:, :2] * 2)
    assert found.varm["w"].shape == (3, 5) and found.uns["of"] == {"n": 1}
    backed = anndata.read_h5ad(tmp_path / "one.h5ad", backed="r")
    assert np.array_equal(backed[1:3].X[:], X[1:3])
    backed.file.close()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": Matrix(3, lambda: iter([X[:3]]))}, r"'X' has the shape \(3, 3\), expected is \(4"),
        ({"x": Matrix(3, lambda: iter([X[:, :2]]))}, r"'X' has the shape \(4, 2\)"),
        ({"x": Matrix(2, lambda: iter([X[:, :2]]))}, r"'X' has the shape \(4, 2\)"),
        ({"layers": {"l": sparse.csr_matrix(X[:3])}}, r"'l' has the shape \(3, 3\)"),
        ({"var": pl.DataFrame({"v": ["x", "y", "x"]})}, "two columns are called 'x'"),
        ({"obs": pl.DataFrame({"v": ["x", "y", "y", "y"]})}, "two rows are called 'y'"),
    ],
)
def test_what_does_not_fit_leaves_no_file(
    tmp_path: Path, changed: dict[str, object], message: str
) -> None:
    with pytest.raises(CislensError, match=message):
        write_h5ad(table(**changed), tmp_path / "x.h5ad")
    assert not list(tmp_path.iterdir())
