"""Gradients of the row families written out: on the CPU, autograd costs a small network half as much as its products.

Each layer has an operation: `forward` gives its output and may overwrite its input, `backward` takes the gradient by
the output, which it may overwrite, leaves those of its parameters in their `grad` and gives that by the input.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from scripts.models.layers import PooledDropout
from scripts.models.mlp import MLP
from scripts.models.resnet import ResidualBlock, ResNet
from scripts.training.flat_parameters import FlatParameters

_aten = torch.ops.aten


class _Linear:
    def __init__(self, layer: nn.Linear) -> None:
        self.layer = layer

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        self.input = h
        return nn.functional.linear(h, self.layer.weight, self.layer.bias)

    def backward(self, gradient: torch.Tensor) -> torch.Tensor:
        self.backward_to_parameters(gradient)
        return torch.mm(gradient, self.layer.weight)

    def backward_to_parameters(self, gradient: torch.Tensor) -> None:
        torch.mm(gradient.t(), self.input, out=self.layer.weight.grad)
        torch.sum(gradient, 0, out=self.layer.bias.grad)


class _Relu:
    def __init__(self, layer: nn.ReLU) -> None:
        pass

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
    def __init__(self, layer: PooledDropout) -> None:
        self.layer = layer

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        self.mask = self.layer.mask(h)
        return h.mul_(self.mask)

    def backward(self, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.mul_(self.mask)


class _LayerNorm:
    def __init__(self, layer: nn.LayerNorm) -> None:
        self.layer: Any = layer

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        norm = self.layer
        out, *self.statistics = torch.native_layer_norm(h, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        self.input = h
        return out

    def backward(self, gradient: torch.Tensor) -> torch.Tensor:
        norm = self.layer
        back, norm.weight.grad[:], norm.bias.grad[:] = _aten.native_layer_norm_backward(
            gradient, self.input, norm.normalized_shape, *self.statistics, norm.weight, norm.bias, [True] * 3
        )
        return back


class _Residual:
    def __init__(self, block: ResidualBlock) -> None:
        self.branch = _operations(block.branch)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return _forward(self.branch, h).add_(h)  # the branch begins with a norm, which leaves h as it is

    def backward(self, gradient: torch.Tensor) -> torch.Tensor:
        return _backward(self.branch, gradient).add_(gradient)  # and ends in a linear layer, which leaves the gradient


_OPERATIONS: dict[type[nn.Module], Any] = {
    nn.Linear: _Linear,
    nn.ReLU: _Relu,
    nn.GELU: _Smooth,
    nn.SiLU: _Smooth,
    PooledDropout: _Dropout,
    nn.LayerNorm: _LayerNorm,
    ResidualBlock: _Residual,
}


def _operations(layers: Iterable[nn.Module]) -> list[Any]:
    active = (layer for layer in layers if not (isinstance(layer, PooledDropout) and layer.p == 0.0))
    return [_OPERATIONS[type(layer)](layer) for layer in active]


def _forward(operations: list[Any], h: torch.Tensor) -> torch.Tensor:
    for operation in operations:
        h = operation.forward(h)
    return h


def _backward(operations: list[Any], gradient: torch.Tensor) -> torch.Tensor:
    for operation in reversed(operations):
        gradient = operation.backward(gradient)
    return gradient


class ExplicitBackward:
    """Loss and gradients of an MLP or a ResNet on the CPU, the same as by autograd up to rounding.

    Parameters
    ----------
    model : MLP or ResNet
    flat : FlatParameters
        Of this model.
    class_weights : Tensor, shape (n_classes,), or None
    label_smoothing : float
    """

    def __init__(
        self, model: MLP | ResNet, flat: FlatParameters, class_weights: torch.Tensor | None, label_smoothing: float
    ) -> None:
        self.flat = flat
        self._first, *self._others = _operations(model.layers)
        bias = list(model.parameters())[-1].detach()
        smoothed = (1.0 - label_smoothing) * torch.eye(len(bias), dtype=bias.dtype) + label_smoothing / len(bias)
        # Row y holds what the loss of a row of class y multiplies its log-probabilities by.
        self._factors = -smoothed if class_weights is None else -smoothed * class_weights

    @classmethod
    def of(
        cls,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        class_weights: torch.Tensor | None,
        label_smoothing: float,
    ) -> ExplicitBackward | None:
        """For a family of our own on the CPU, whose parameters move into flat buffers; None for every other model."""
        parameters = list(model.parameters())
        on_cpu = all(p.device.type == "cpu" for p in parameters)
        if on_cpu and (type(model) is MLP or type(model) is ResNet):
            return cls(model, FlatParameters(parameters, optimiser), class_weights, label_smoothing)
        return None

    @torch.no_grad()
    def loss(
        self,
        inputs: torch.Tensor,
        targets: torch.Tensor,
        sample_weights: torch.Tensor | None,
        mass: int | torch.Tensor,
    ) -> torch.Tensor:
        """`optimisation.loss_sum` of a batch divided by `mass`; leaves its gradients with the parameters.

        With p the softmax of a row and -t its factors, the gradient by its logits is p sum(t) - t.
        """
        logarithms = torch.log_softmax(_forward(self._others, self._first.forward(inputs)), 1)
        factors = self._factors.index_select(0, targets).div_(mass)
        if sample_weights is not None:
            factors *= sample_weights[:, None]
        gradient = torch._log_softmax_backward_data(factors, logarithms, 1, logarithms.dtype)
        self._first.backward_to_parameters(_backward(self._others, gradient))
        return torch.dot(factors.view(-1), logarithms.view(-1))
