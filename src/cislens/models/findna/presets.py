"""Named sizes of the encoders of FinDNA. "tiny" is made for two CPU cores; others want a GPU."""

from typing import Any

_PLUS: dict[str, dict[str, Any]] = {
    "tiny": {"dim": 64, "depth": 4, "stem_dim": 32},
    "small": {"dim": 192, "depth": 8, "stem_dim": 64},
    # About as many parameters as the published model.
    "base": {"dim": 320, "depth": 12, "stem_dim": 64},
}

ENCODERS: dict[str, dict[str, Any]] = {
    f"findna-plus-{size}": {"kind": "findna-plus", **shape} for size, shape in _PLUS.items()
}
