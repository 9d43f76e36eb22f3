import pytest
import torch

from castkd.losses.chunked import chunked_sum


def pair_sum(tensor, rows):
    return (tensor[rows] @ tensor.t()).exp().sum()


@pytest.mark.parametrize('size', [1, 3, 7, 100])
def test_value_and_gradient_equal_the_whole(size):
    tensor = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    value = 3 * chunked_sum(pair_sum, tensor, torch.arange(7).split(size)) ** 2
    (gradient,) = torch.autograd.grad(value, tensor)
    whole = 3 * pair_sum(tensor, torch.arange(7)) ** 2
    torch.testing.assert_close(value, whole)
    torch.testing.assert_close(gradient, torch.autograd.grad(whole, tensor)[0])


def test_no_chunks_give_a_zero_with_a_graph():
    tensor = torch.randn(4, 2, requires_grad=True)
    value = chunked_sum(pair_sum, tensor, [])
    value.backward()
    assert value == 0
    assert tensor.grad.eq(0).all()


@pytest.mark.parametrize('tracked', [False, True])
def test_builds_no_graph_when_no_gradient_is_wanted(tracked):
    def row_loss(tensor, rows):
        result = tensor[rows].square().sum()
        assert not result.requires_grad
        return result

    with torch.set_grad_enabled(not tracked):
        value = chunked_sum(
            row_loss, torch.ones(4, requires_grad=tracked), torch.arange(4).split(2)
        )
    assert value == 4
    assert not value.requires_grad


def test_second_derivative_is_refused():
    tensor = torch.randn(4, 2, requires_grad=True)
    value = chunked_sum(pair_sum, tensor, torch.arange(4).split(2))
    (gradient,) = torch.autograd.grad(value, tensor, create_graph=True)
    with pytest.raises(RuntimeError, match=r'not require grad|once_differentiable'):
        gradient.sum().backward()
