"""What a prediction costs, counted and not guessed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from cislens.errors import CislensError
from cislens.evaluation.arms.contract import Scores
from cislens.evaluation.arms.probe import count_bases
from cislens.evaluation.tasks.task import Fold
from cislens.representations.cache import aside

_COUNTED = 2  # examples that are predicted once more to count


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the floating-point operations of this thread's tensor operations.

    torch's own FlopCounterMode hooks every module of the process; arms run side by side.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = flop_registry.get(func._overloadpacket)
        if formula is None:
            with self:
                parts = func.decompose(*args, **kwargs)
            return func(*args, **kwargs) if parts is NotImplemented else parts
        out = func(*args, **kwargs)
        self.total += int(formula(*args, **kwargs, out_val=out))
        return out


def flops_per_bp(predict: Callable[[Fold], Scores], fold: Fold) -> float:
    """Floating-point operations for each base that is scored, a multiply-add as two.

    Only torch's operations count, so the figure is 0 for formulas and for features that are read
    from a store. Kept features are not looked up, and the sequences are reversed, so that a store
    has none for them.
    """
    some = fold.take(np.arange(min(_COUNTED, len(fold))))
    alternates = some.alternates
    strange = replace(
        some,
        sequences=tuple(codes[::-1].copy() for codes in some.sequences),
        alternates=None if alternates is None else tuple(a[::-1].copy() for a in alternates),
    )
    with aside(), _Counter() as counter:
        try:
            predict(strange)
        except CislensError:
            return 0.0
    return float(counter.total / count_bases(strange))
