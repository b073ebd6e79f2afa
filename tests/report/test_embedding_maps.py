import numpy as np
import polars as pl

from cislens.report.embedding_maps import principal_plane
from cislens.report.figures.maps import embedding_map


def test_the_plane_is_that_of_most_variance_with_fixed_signs() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(400, 5)) * [1.0, 5.0, 0.1, 3.0, 0.1]
    values -= values.mean(axis=0)
    plane, share = principal_plane(values)
    assert np.abs(plane).argmax(axis=0).tolist() == [1, 3]
    assert (plane[[1, 3], [0, 1]] > 0.9).all()
    singular = np.linalg.svd(values, compute_uv=False)
    np.testing.assert_allclose(share, (singular**2 / (singular**2).sum())[:2], rtol=1e-9)


def test_every_example_is_a_dot_of_its_class() -> None:
    rows = pl.DataFrame({"x": [0.0, 1, 2], "y": [0.0, 1, 0], "label": [0.0, 1.0, 1.0]})
    drawn = embedding_map(rows, ["closed", "open"], "PCA of a on t")
    assert "closed: 1, open: 2" in drawn.alt
    assert drawn.data.equals(rows)
