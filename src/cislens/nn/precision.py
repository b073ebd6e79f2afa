"""Which parts stay in the precision of their weights under autocast."""

from contextlib import AbstractContextManager, nullcontext

import torch


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """A context without autocast on a device."""
    # The meta device, on which shapes and memory are worked out, has no autocast. (To ask torch
    # whether a device has it would break the graph of a compiled model in torch 2.11.)
    if device.type == "meta":
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """The type that autocast computes in on a device; None where it is off."""
    if device.type == "meta" or not torch.is_autocast_enabled(device.type):
        return None
    return torch.get_autocast_dtype(device.type)
