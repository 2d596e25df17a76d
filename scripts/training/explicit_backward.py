"""Gradients of the row families written out: on the CPU, autograd costs as much as the matrix products themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import nn

from scripts.models.layers import PooledDropout
from scripts.models.mlp import MLP
from scripts.models.resnet import ResidualBlock, ResNet

_backward = torch.ops.aten


class _Operation(Protocol):
    """One layer; `backward` takes the gradient of its output, may overwrite it, and returns that of its input."""

    def forward(self, h: torch.Tensor) -> torch.Tensor: ...

    def backward(self, gradient: torch.Tensor) -> torch.Tensor: ...


class _Linear:
    def __init__(self, layer: nn.Linear) -> None:
        self.weight, self.bias = layer.weight, layer.bias
        self.transposed = layer.weight.detach().t()
        self.input = torch.empty(0)
        # Kept from step to step: fresh memory would be cold.
        self.outputs = self.weight.new_empty(0, layer.out_features)
        self.gradients = self.weight.new_empty(0, layer.in_features)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        if len(self.outputs) < len(h):
            self.outputs = h.new_empty(len(h), self.outputs.shape[1])
        self.input = h
        return torch.addmm(self.bias, h, self.transposed, out=self.outputs[: len(h)])

    def backward(self, gradient: torch.Tensor) -> torch.Tensor:
        self.backward_to_parameters(gradient)
        if len(self.gradients) < len(gradient):
            self.gradients = gradient.new_empty(len(gradient), self.gradients.shape[1])
        return torch.mm(gradient, self.weight, out=self.gradients[: len(gradient)])

    def backward_to_parameters(self, gradient: torch.Tensor) -> None:
        torch.mm(gradient.t(), self.input, out=self.weight.grad)
        torch.sum(gradient, 0, out=self.bias.grad)


class _Relu:
    def __init__(self, layer: nn.ReLU) -> None:
        self.output = torch.empty(0)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        # Dropout overwrites it with zeros, for which the gradient that comes back is zero as well.
        self.output = torch.relu_(h)
        return h

    def backward(self, gradient: torch.Tensor) -> torch.Tensor:
        return _backward.threshold_backward.grad_input(gradient, self.output, 0, grad_input=gradient)


class _Smooth:
    """An activation whose gradient is a function of its input."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer
        self.slope = _backward.gelu_backward if isinstance(layer, nn.GELU) else _backward.silu_backward

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        self.input = h
        return self.layer(h)

    def backward(self, gradient: torch.Tensor) -> torch.Tensor:
        return self.slope.grad_input(gradient, self.input, grad_input=gradient)


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
        self.layer = layer

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        norm = self.layer
        self.input = h
        out, self.mean, self.scale = torch.native_layer_norm(h, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        return out

    def backward(self, gradient: torch.Tensor) -> torch.Tensor:
        norm, wanted = self.layer, [True, True, True]
        back, norm.weight.grad[:], norm.bias.grad[:] = _backward.native_layer_norm_backward(
            gradient, self.input, norm.normalized_shape, self.mean, self.scale, norm.weight, norm.bias, wanted
        )
        return back


class _Residual:
    """First and last operation of a branch, norm and linear, leave input and gradient as they are."""

    def __init__(self, layer: ResidualBlock) -> None:
        self.branch = _operations(layer.branch)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        out = h
        for operation in self.branch:
            out = operation.forward(out)
        return out.add_(h)

    def backward(self, gradient: torch.Tensor) -> torch.Tensor:
        back = gradient
        for operation in reversed(self.branch):
            back = operation.backward(back)
        return back.add_(gradient)


_OPERATIONS: dict[type[nn.Module], Callable[[Any], _Operation]] = {
    nn.Linear: _Linear,
    nn.ReLU: _Relu,
    nn.GELU: _Smooth,
    nn.SiLU: _Smooth,
    PooledDropout: _Dropout,
    nn.LayerNorm: _LayerNorm,
    ResidualBlock: _Residual,
}


def _operations(layers: Iterable[nn.Module]) -> list[_Operation]:
    idle = (layer for layer in layers if not (isinstance(layer, PooledDropout) and layer.p == 0.0))
    return [_OPERATIONS[type(layer)](layer) for layer in idle]


class ExplicitBackward:
    """Loss and gradients of an MLP or a ResNet on the CPU, the same as by autograd up to rounding.

    Parameters
    ----------
    model : MLP or ResNet
        The gradients go where those of its parameters lie; parameters and gradients must stay in their places.
    class_weights : Tensor, shape (n_classes,), or None
    label_smoothing : float
    """

    def __init__(self, model: MLP | ResNet, class_weights: torch.Tensor | None, label_smoothing: float) -> None:
        self._operations = _operations(model.layers)
        last_bias = list(model.parameters())[-1].detach()
        smoothed = (1.0 - label_smoothing) * torch.eye(len(last_bias)) + label_smoothing / len(last_bias)
        # Row y holds what the loss of a row of class y multiplies its log-probabilities by.
        self._factors = -(smoothed if class_weights is None else smoothed * class_weights).to(last_bias.dtype)

    @staticmethod
    def serves(model: nn.Module) -> bool:
        """Whether the model is a family of our own, on the CPU."""
        return type(model) in (MLP, ResNet) and all(p.device.type == "cpu" for p in model.parameters())

    @torch.no_grad()
    def loss(
        self, inputs: torch.Tensor, targets: torch.Tensor, sample_weights: torch.Tensor | None, mass: float | torch.Tensor
    ) -> torch.Tensor:
        """`optimisation.loss_sum` of a batch divided by `mass`; its gradients replace those of the step before.

        With p the softmax of a row and t its factors, the gradient by its logits is p sum(t) - t.
        """
        h = inputs
        for operation in self._operations:
            h = operation.forward(h)
        factors = self._factors.index_select(0, targets).div_(mass)
        if sample_weights is not None:
            factors *= sample_weights[:, None]
        logarithms = torch.log_softmax(h, 1)
        gradient = torch._log_softmax_backward_data(factors, logarithms, 1, h.dtype)
        for operation in reversed(self._operations[1:]):
            gradient = operation.backward(gradient)
        self._operations[0].backward_to_parameters(gradient)
        return torch.dot(factors.view(-1), logarithms.view(-1))
