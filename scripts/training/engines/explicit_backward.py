"""Explicit backward passes of MLP, ResNet and TabM, for several models of one shape at once.

Autograd costs a small network half as much as its products on the CPU: written out, an MLP epoch takes 0.67 of its time
(docs/log.md, 2026-11-24, "Backward passes of MLP and ResNet"). A GRU gained nothing (2026-11-26, "GRU").

The model is the first dimension of every tensor, also of a single model, and the head of a TabM is the second. Each
layer has an operation. `forward` returns the output and may overwrite its input. `backward` takes the gradient by the
output, which it may overwrite, and returns that by the input. It writes the gradients of the parameters to their
buffers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from scripts.training.models.layers import PooledDropout, dropout_layers
from scripts.training.models.mlp import MLP
from scripts.training.models.resnet import ResidualBlock, ResNet
from scripts.training.models.tabm import PerHeadLinear, SharedLinear, TabM

_aten = torch.ops.aten

Parameters = Iterator[tuple[torch.Tensor, torch.Tensor]]  # values and gradients of all models


class _Linear:
    def __init__(self, parameters: Parameters) -> None:
        (self.weight, self.weight_gradient), (bias, self.bias_gradient) = next(parameters), next(parameters)
        self.transposed, self.bias = self.weight.mT, bias[:, None]

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        self.input = h
        return torch.baddbmm(self.bias, h, self.transposed)

    def backward(self, gradient: torch.Tensor) -> torch.Tensor:
        self.backward_to_parameters(gradient)
        return torch.bmm(gradient, self.weight)

    def backward_to_parameters(self, gradient: torch.Tensor) -> None:
        torch.bmm(gradient.mT, self.input, out=self.weight_gradient)
        torch.sum(gradient, 1, out=self.bias_gradient)


class _Relu:
    def forward(self, h: torch.Tensor) -> torch.Tensor:
        # Dropout may overwrite it with zeros, where the gradient that comes back is zero as well.
        self.output = torch.relu_(h)
        return h

    def backward(self, gradient: torch.Tensor) -> torch.Tensor:
        return _aten.threshold_backward.grad_input(gradient, self.output, 0, grad_input=gradient)


class _Smooth:
    def __init__(self, layer: nn.GELU | nn.SiLU) -> None:
        self.layer = layer
        self.derivative = _aten.gelu_backward if isinstance(layer, nn.GELU) else _aten.silu_backward

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        self.input = h
        return self.layer(h)

    def backward(self, gradient: torch.Tensor) -> torch.Tensor:
        return self.derivative.grad_input(gradient, self.input, grad_input=gradient)


class _Dropout:
    mask: torch.Tensor  # of a step, set before it

    def __init__(self, layers: Sequence[PooledDropout], row_size: int, dtype: torch.dtype) -> None:
        self.layers, self.row_size, self.dtype, self.largest = layers, row_size, dtype, 0

    def drawn(self, step: int, n_rows: int) -> torch.Tensor:
        size = n_rows * self.row_size
        if size > self.largest:
            self.pools = torch.stack([layer.pool(size, self.dtype) for layer in self.layers])
            self.largest = size
        # One start for all models makes their masks a single strided view; the numbers in a pool are each model's own.
        start = self.layers[0].start(step)
        return self.pools[:, start : start + size]

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        self.mask = self.mask.view(h.shape)
        return h.mul_(self.mask)

    def backward(self, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.mul_(self.mask)


class _LayerNorm:
    def __init__(self, layer: nn.LayerNorm, parameters: Parameters) -> None:
        self.shape, self.eps = layer.normalized_shape, layer.eps
        (weight, self.weight_gradient), (bias, self.bias_gradient) = next(parameters), next(parameters)
        self.weight, self.bias = weight[:, None], bias[:, None]

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        self.input = h
        # Without weight and bias, because those differ by model and the kernel takes a single set.
        self.normalised, *self.statistics = torch.native_layer_norm(h, self.shape, None, None, self.eps)
        return torch.addcmul(self.bias, self.normalised, self.weight)

    def backward(self, gradient: torch.Tensor) -> torch.Tensor:
        torch.sum(gradient, 1, out=self.bias_gradient)
        torch.sum(self.normalised.mul_(gradient), 1, out=self.weight_gradient)
        gradient.mul_(self.weight)
        return _aten.native_layer_norm_backward(
            gradient, self.input, self.shape, *self.statistics, None, None, [True, False, False]
        )[0]


class _Residual:
    def __init__(self, branch: list[Any]) -> None:
        self.branch = branch

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return _forward(self.branch, h).add_(h)  # the branch starts with a norm, which does not change h

    def backward(self, gradient: torch.Tensor) -> torch.Tensor:
        return _backward(self.branch, gradient).add_(gradient)  # and ends in a linear layer, which leaves the gradient


class _SharedLinear:
    def __init__(self, parameters: Parameters) -> None:
        self.weight, self.weight_gradient = next(parameters)
        (scale_in, self.scale_in_gradient), (scale_out, self.scale_out_gradient) = next(parameters), next(parameters)
        bias, self.bias_gradient = next(parameters)
        self.scale_in, self.scale_out, self.bias = scale_in[:, :, None], scale_out[:, :, None], bias[:, :, None]

        # Workspaces by input shape: new ones in each step would cost a tenth of its time.
        self.spaces: dict[torch.Size, tuple[torch.Tensor, ...]] = {}

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        self.input = h if h.ndim == 4 else h[:, None]  # the rows are the same for all heads
        if h.shape not in self.spaces:
            sizes = *self.bias.shape[:2], h.shape[-2]
            widths = (self.scale_in.shape[-1],) * 2 + (self.bias.shape[-1],) * 2
            self.spaces[h.shape] = tuple(h.new_empty(*sizes, width) for width in widths)
        self.scaled, self.product, self.products, output = self.spaces[h.shape]
        torch.mul(self.input, self.scale_in, out=self.scaled)
        torch.bmm(self.scaled.flatten(1, 2), self.weight.mT, out=self.products.flatten(1, 2))
        return torch.addcmul(self.bias, self.products, self.scale_out, out=output)

    def backward(self, gradient: torch.Tensor) -> torch.Tensor:
        torch.sum(gradient, 2, out=self.bias_gradient)
        torch.sum(self.products.mul_(gradient), 2, out=self.scale_out_gradient)
        rows = gradient.mul_(self.scale_out).flatten(1, 2)
        torch.bmm(rows.mT, self.scaled.flatten(1, 2), out=self.weight_gradient)
        torch.bmm(rows, self.weight, out=self.scaled.flatten(1, 2))
        torch.sum(torch.mul(self.scaled, self.input, out=self.product), 2, out=self.scale_in_gradient)
        return self.scaled.mul_(self.scale_in)

    backward_to_parameters = backward


class _PerHeadLinear:
    def __init__(self, parameters: Parameters) -> None:
        (self.weight, self.weight_gradient), (bias, self.bias_gradient) = next(parameters), next(parameters)
        self.bias = bias[:, :, None]

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        self.input = h
        return torch.matmul(h, self.weight).add_(self.bias)

    def backward(self, gradient: torch.Tensor) -> torch.Tensor:
        self.weight_gradient.copy_(torch.matmul(self.input.mT, gradient))
        torch.sum(gradient, 2, out=self.bias_gradient)
        return torch.matmul(gradient, self.weight.mT)


def _operations(layers: Iterable[nn.Module], parameters: Parameters, dropouts: Iterator[Any]) -> Iterator[Any]:
    before: Any
    for layer in layers:
        if isinstance(layer, nn.Linear):
            yield (before := _Linear(parameters))
        elif isinstance(layer, nn.ReLU):
            yield _Relu()
        elif isinstance(layer, nn.GELU | nn.SiLU):
            yield _Smooth(layer)
        elif isinstance(layer, nn.LayerNorm):
            yield _LayerNorm(layer, parameters)
        elif isinstance(layer, SharedLinear):
            yield (before := _SharedLinear(parameters))
        elif isinstance(layer, PerHeadLinear):
            yield _PerHeadLinear(parameters)
        elif isinstance(layer, ResidualBlock):
            yield _Residual(list(_operations(layer.branch, parameters, dropouts)))
        else:
            # A dropout of 0 in one model is a mask of ones: the models of a program share every operation.
            of_all = next(dropouts)
            if any(dropout.p > 0.0 for dropout in of_all):
                yield _Dropout(of_all, before.bias[0].numel(), before.bias.dtype)


def _dropouts(operations: Iterable[Any]) -> Iterator[_Dropout]:
    for operation in operations:
        if isinstance(operation, _Dropout):
            yield operation
        elif isinstance(operation, _Residual):
            yield from _dropouts(operation.branch)


def _forward(operations: list[Any], h: torch.Tensor) -> torch.Tensor:
    for operation in operations:
        h = operation.forward(h)
    return h


def _backward(operations: list[Any], gradient: torch.Tensor) -> torch.Tensor:
    for operation in reversed(operations):
        gradient = operation.backward(gradient)
    return gradient


class ExplicitBackward:
    """Losses and gradients of MLPs, ResNets or TabMs, the same as by autograd up to rounding.

    Parameters
    ----------
    models : sequence of MLP, of ResNet or of TabM
        All of one shape and activation; dropout may differ.
    parameters : sequence of (Tensor, Tensor)
        Values and gradients by parameter, each of shape (models, *shape); products are taken in their type.
    """

    def __init__(
        self, models: Sequence[MLP | ResNet | TabM], parameters: Sequence[tuple[torch.Tensor, torch.Tensor]]
    ) -> None:
        dropouts = zip(*(dropout_layers(model) for model in models), strict=True)
        self._first, *self._others = _operations(models[0].layers, iter(parameters), dropouts)
        self._dropouts = list(_dropouts(self._others))
        self._dtype = parameters[0][0].dtype

    def redraw(self) -> None:
        """Drop the masks of dropout, because its layers draw new ones."""
        for dropout in self._dropouts:
            dropout.largest = 0

    def masks(self, step: int, n_rows: int) -> list[torch.Tensor]:
        """Masks of a step, counted since the last redraw: for each dropout of the models a tensor (models, size)."""
        return [dropout.drawn(step, n_rows) for dropout in self._dropouts]

    def losses(self, inputs: torch.Tensor, factors: torch.Tensor, masks: Sequence[torch.Tensor]) -> torch.Tensor:
        """Loss of each model in a step, shape (models,); leaves the gradients in their buffers.

        Parameters
        ----------
        inputs : Tensor, shape (models, n, n_features)
        factors : Tensor, shape (models, n, n_classes)
            What the log-probabilities of a row are multiplied by in the loss, and then summed. With p the softmax of
            the row, the gradient by its logits is factors - p sum(factors). Members of a TabM share them equally.
        masks : sequence of Tensor
            Of `masks` for n rows.
        """
        for dropout, mask in zip(self._dropouts, masks, strict=True):
            dropout.mask = mask
        logits = _forward(self._others, self._first.forward(inputs.to(self._dtype)))
        logarithms = torch.log_softmax(logits, -1, dtype=factors.dtype)
        if logarithms.ndim == 4:
            factors = (factors / logarithms.shape[1])[:, None].expand_as(logarithms).contiguous()
        gradient = torch._log_softmax_backward_data(factors, logarithms, -1, logarithms.dtype)
        # The gradient by the inputs is not computed, because nothing uses it.
        self._first.backward_to_parameters(_backward(self._others, gradient.to(self._dtype)))
        return logarithms.mul_(factors).sum(tuple(range(1, logarithms.ndim)))
