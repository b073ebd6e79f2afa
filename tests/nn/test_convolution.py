"""Convolution blocks: the folded form is the written one; masked positions are seen as ends."""

import pytest
import torch
import torch.nn.functional as F

from cislens.nn.convolution import ConvBlock, Convolution, position_mask


def reference_block(block: ConvBlock, x_BLC: torch.Tensor) -> torch.Tensor:
    """Conv(g(BN(x))) as the paper writes it, channels first."""
    norm, conv = block.norm, block.conv
    h_BCL = F.batch_norm(
        x_BLC.transpose(1, 2),
        norm.running_mean.clone(),
        norm.running_var.clone(),
        norm.weight,
        norm.bias,
        training=block.training,
        eps=1e-5,
    )
    h_BCL = h_BCL * torch.sigmoid(1.702 * h_BCL)
    return F.conv1d(h_BCL, conv.weight, conv.bias, padding=conv.weight.shape[2] // 2).transpose(
        1, 2
    )


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("width", [1, 5])
def test_block_is_conv_of_gated_norm(training: bool, width: int) -> None:
    torch.manual_seed(0)
    block = ConvBlock(8, 12, width).train(training)
    torch.nn.init.normal_(block.norm.weight)
    torch.nn.init.normal_(block.norm.bias)
    x = torch.randn(3, 20, 8, requires_grad=True)
    expected = reference_block(block, x)
    (expected_grad,) = torch.autograd.grad(expected.square().sum(), x)
    found = block(x)
    (found_grad,) = torch.autograd.grad(found.square().sum(), x)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found_grad, expected_grad, atol=1e-4, rtol=1e-4)


def test_training_updates_running_statistics_once() -> None:
    torch.manual_seed(0)
    block = ConvBlock(4, 4, 1)
    x = torch.randn(5, 30, 4) * 3 + 2
    block(x)
    torch.testing.assert_close(block.norm.running_mean, 0.1 * x.mean(dim=(0, 1)))
    torch.testing.assert_close(
        block.norm.running_var, 0.9 + 0.1 * x.flatten(0, 1).var(dim=0), atol=1e-5, rtol=1e-5
    )
    assert int(block.norm.num_batches_tracked) == 1


@pytest.mark.parametrize(("channels", "width"), [(4, 15), (16, 5), (16, 1)])
def test_every_path_is_conv1d(channels: int, width: int) -> None:
    torch.manual_seed(0)
    conv = Convolution(channels, 6, width)
    x = torch.randn(2, 33, channels, requires_grad=True)
    expected = F.conv1d(x.transpose(1, 2), conv.weight, conv.bias, padding=width // 2)
    found = conv(x)
    torch.testing.assert_close(found, expected.transpose(1, 2), atol=1e-5, rtol=1e-5)
    (found_grad,) = torch.autograd.grad(found.sin().sum(), x)
    (expected_grad,) = torch.autograd.grad(expected.sin().sum(), x)
    torch.testing.assert_close(found_grad, expected_grad, atol=1e-5, rtol=1e-5)


def test_masked_positions_are_the_zeros_beyond_the_end() -> None:
    torch.manual_seed(0)
    block = ConvBlock(8, 8, 5).eval()
    x = torch.randn(1, 24, 8)
    valid = torch.tensor([[True, True, False]])
    alone = block(x[:, :16])
    inside = block(x, position_mask(valid, 24))
    torch.testing.assert_close(inside[:, :16], alone, atol=1e-6, rtol=0)
    # The guard matters: without the mask the last two positions see their neighbors.
    assert (block(x)[:, 14:16] - alone[:, 14:16]).abs().max() > 1e-3


def test_position_mask_repeats_each_bin() -> None:
    mask = position_mask(torch.tensor([[True, False]]), 6)
    assert mask.flatten().tolist() == [True, True, True, False, False, False]


def test_even_width_is_refused() -> None:
    with pytest.raises(ValueError, match="even width"):
        Convolution(4, 4, 2)
