"""Named sizes of the encoders of FinDNA. "tiny" is made for two CPU cores; others want a GPU."""

from typing import Any

_PLUS: dict[str, dict[str, Any]] = {
    "tiny": {"dim": 64, "depth": 4, "stem_dim": 32},
    "small": {"dim": 192, "depth": 8, "stem_dim": 64},
    # About as many parameters as the published model.
    "base": {"dim": 320, "depth": 12, "stem_dim": 64},
}

# "base" is the published shape; "tiny" has its 11 groups, which move by up to 512 bp.
_PAPER: dict[str, dict[str, Any]] = {
    "tiny": {"dim": 44, "hidden_dim": 72, "group": 4, "blocks": 2},
    "base": {"dim": 308, "hidden_dim": 512, "group": 28, "blocks": 4},
}

ENCODERS: dict[str, dict[str, Any]] = {
    **{f"findna-plus-{size}": {"kind": "findna-plus", **shape} for size, shape in _PLUS.items()},
    **{f"findna-paper-{size}": {"kind": "findna-paper", **shape} for size, shape in _PAPER.items()},
}
