"""cislens learns, judges and uses representations of regulatory DNA."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Loaded when first used, so that `import cislens` stays light and knows no torch.
_HOME = {
    "ProfileStore": "cislens.signal.store",
    "Task": "cislens.evaluation.tasks.task",
    "attribute": "cislens.effects.attribution.attribute",
    "fit": "cislens.training.fit",
    "load_model": "cislens.models.saving",
    "open_genome": "cislens.genome.reference",
    "predict": "cislens.effects.tracks",
    "predict_tracks": "cislens.effects.tracks",
    "read_tracks": "cislens.signal.tracks",
    "run_bench": "cislens.evaluation.bench",
    "score_variants": "cislens.effects.variants.scores",
    "verdicts": "cislens.evaluation.verdict",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'cislens' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
