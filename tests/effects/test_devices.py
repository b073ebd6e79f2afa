import pytest
import torch
from torch import nn

from cislens.effects.devices import resolve_device, running
from cislens.errors import CislensError


def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(CislensError, match="GPUs that torch can use; give cpu or auto"):
        resolve_device("cuda:99")


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(CislensError, match="no device 'gpu'"):
        resolve_device("gpu")


def test_modes_of_all_modules_are_restored() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Linear(2, 2))
    model[1].eval()
    with running(model, "cpu") as place:
        assert place == torch.device("cpu")
        assert not model.training and not model[0].training
    assert model.training and model[0].training and not model[1].training


def test_modes_are_restored_after_an_error() -> None:
    model = nn.Dropout()
    with pytest.raises(ZeroDivisionError), running(model):
        raise ZeroDivisionError
    assert model.training


def test_bf16_is_autocast_and_leaves_the_weights_fp32() -> None:
    model = nn.Linear(4, 4)
    with running(model, "cpu", "bf16"):
        assert model(torch.ones(1, 4)).dtype == torch.bfloat16
    assert model.weight.dtype == torch.float32
    assert model(torch.ones(1, 4)).dtype == torch.float32
