"""The multi-modal objective as a recipe has it."""

import re
from typing import Any

import pytest
from pydantic import ValidationError

from cislens.recipes.multimodal import TERMS, MultimodalTerms


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"contrast": float("inf")}, "finite number"),
        ({"masked": float("nan")}, "finite number"),
        ({"match": -0.5}, "greater than or equal to 0"),
        ({"contrst": 1.0}, "unknown key 'contrst'. Did you mean 'contrast'"),
        (dict.fromkeys(TERMS, 0.0), "every term has weight 0"),
        ({"mask_rate": (0.3, 0.15)}, "two shares in order"),
        ({"mask_rate": (0.15, float("nan"))}, "two shares in order"),
        ({"region_rate": 1.0}, "less than 1"),
        ({"context": 1}, "greater than or equal to 2"),
    ],
)
def test_what_no_training_can_be_made_of_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(said)):
        MultimodalTerms(**given)
