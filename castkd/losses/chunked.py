"""Sums over many rows whose intermediate results fit in memory for a few rows at a time only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

RowLoss = Callable[[Tensor, Tensor], Tensor]


def chunked_sum(row_loss: RowLoss, tensor: Tensor, chunks: Sequence[Tensor]) -> Tensor:
    """Sum ``row_loss(tensor, rows)`` over chunks of rows, holding one chunk's graph at a time.

    The gradient of a chunk is taken right after its value, while its intermediate results are
    alive, so nothing is computed twice and the backward pass only scales what is there. For the
    same reason the result can be differentiated once only, and gradient reaches ``tensor`` but
    nothing else that ``row_loss`` uses.

    Args:
        row_loss: Maps (tensor, row indices (n,)) to a scalar.
        tensor: What the sum depends on, of any shape.
        chunks: Row indices of each chunk; may be empty.

    Returns:
        The sum, connected to the graph of ``tensor`` also when there are no chunks.

    Example:
        >>> x = torch.ones(4, 2, requires_grad=True)
        >>> total = chunked_sum(lambda t, i: t[i].square().sum(), x, torch.arange(4).split(3))
        >>> total.backward()
        >>> x.grad[0]
        tensor([2., 2.])
    """
    wants_grad = torch.is_grad_enabled() and tensor.requires_grad
    return _ChunkedSum.apply(tensor, row_loss, chunks, wants_grad)


class _ChunkedSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - the context type is private to torch
        tensor: Tensor,
        row_loss: RowLoss,
        chunks: Sequence[Tensor],
        wants_grad: bool,
    ) -> Tensor:
        total = tensor.new_zeros(())
        grad = torch.zeros_like(tensor) if wants_grad else None
        for rows in chunks:
            with torch.set_grad_enabled(wants_grad):
                leaf = tensor.detach().requires_grad_(wants_grad)
                value = row_loss(leaf, rows)
            if grad is not None:
                grad += torch.autograd.grad(value, leaf)[0]
            total += value.detach()
        if grad is not None:
            ctx.save_for_backward(grad)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN401
        (grad,) = ctx.saved_tensors
        return grad * grad_output, None, None, None
