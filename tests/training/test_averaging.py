import pytest
import torch
from torch import nn

from cislens.training.averaging import RunningMean


def averaged(decay: float, start: nn.Module, steps: list[dict[str, torch.Tensor]]) -> nn.Module:
    callback = RunningMean(decay)
    model = torch.optim.swa_utils.AveragedModel(start, use_buffers=True, **callback._kwargs)
    model.update_parameters(start)
    for state in steps:
        start.load_state_dict(state)
        model.update_parameters(start)
    return model.module


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.999])
def test_what_does_not_change_keeps_its_bits(decay: float) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv1d(4, 64, 5), nn.BatchNorm1d(64))
    nn.init.normal_(net[1].running_mean)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    after = averaged(decay, net, [before] * 50).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_mean_is_exponential_and_counters_are_taken_as_they_are() -> None:
    net = nn.BatchNorm1d(1)
    states = []
    for step in (1, 2):
        state = {name: value.clone() for name, value in net.state_dict().items()}
        state["weight"].fill_(1.0 + step)
        state["num_batches_tracked"].fill_(10 * step)
        states.append(state)
    mean = averaged(0.9, net, states)
    # 1, then 0.9 + 0.1 * 2 = 1.1, then 0.99 + 0.1 * 3 = 1.29.
    assert mean.weight.item() == pytest.approx(1.29, abs=1e-6)
    assert mean.num_batches_tracked.item() == 20
