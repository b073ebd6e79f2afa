"""`cislens doctor`: what this machine has and whether cislens can work on it."""

import importlib.util
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cislens import __version__
from cislens.cli.options import AsJson, answer
from cislens.example import core_data, example_path

_LIBRARIES = ("torch", "lightning", "numpy", "polars", "zarr", "figwig", "pysam", "scikit-learn")
_EXTRAS = {
    "hf": ("transformers", "tokenizers", "peft"),
    "interpret": ("captum", "logomaker", "modiscolite", "tangermeme"),
    "multimodal": ("numba", "pyjaspar", "transformers"),
    "peers": ("enformer_pytorch", "memelite", "pyBigWig", "pyfaidx"),
    "scale": ("ray", "s3fs"),
}


def command(as_json: AsJson = False) -> None:
    """Say whether cislens can work here.

    Shows versions, devices, extras and whether the packaged data are whole.
    """
    answer(examine(), as_json)


def examine() -> dict[str, Any]:
    """Facts about the environment, ready for JSON."""
    import torch

    return {
        "cislens": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "cpu_cores": len(os.sched_getaffinity(0)),
        "torch_threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "extras": {name: all(map(_importable, modules)) for name, modules in _EXTRAS.items()},
        "packaged_data": str(example_path("README.md").parent),
        "development_data": str(core_data() or "not here (set CISLENS_DATA)"),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing: reinstall cislens"


def _importable(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
