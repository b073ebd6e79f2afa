"""The notebooks run from start to end, one after another, on the packaged data."""

import json
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "notebooks"
# In the order in which they are read: the last one uses what the first one leaves.
NOTEBOOKS = ("tracks-to-locus", "variants-and-attributions", "compare-embeddings")


def test_every_notebook_is_tried_and_none_holds_what_a_machine_left() -> None:
    assert sorted(path.stem for path in ROOT.glob("*.ipynb")) == sorted(NOTEBOOKS)
    for path in ROOT.glob("*.ipynb"):
        for cell in json.loads(path.read_text())["cells"]:
            assert not cell.get("outputs") and not cell.get("execution_count"), path


@pytest.mark.slow
def test_the_notebooks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ipykernel", reason="ipykernel of the `test` extra is missing")
    for extra in ("anndata", "logomaker"):
        pytest.importorskip(extra, reason=f"{extra}, which the notebooks use, is missing")
    nbformat = pytest.importorskip("nbformat", reason="nbclient of the `test` extra is missing")
    from jupyter_client.manager import KernelManager
    from nbclient import NotebookClient

    # `cislens` in a cell is that of this environment, and nothing of the user's is read.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    for library in ("OMP", "NUMBA"):  # threads that wait for work would count as work
        monkeypatch.setenv(f"{library}_NUM_THREADS", "1")
    # One kernel, emptied before each notebook: libraries are loaded once.
    kernel, figures = KernelManager(kernel_name="python3"), 0
    kernel.start_kernel(cwd=str(tmp_path))
    try:
        for name in NOTEBOOKS:
            book = nbformat.read(ROOT / f"{name}.ipynb", as_version=4)
            nbformat.validate(book)
            book.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
            NotebookClient(book, km=kernel, timeout=300).execute()
            shown = [out for cell in book.cells for out in cell.get("outputs", [])]
            figures += sum("image/png" in out.get("data", {}) for out in shown)
    finally:
        kernel.shutdown_kernel(now=True)
    assert figures == 3
