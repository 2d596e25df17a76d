"""Training steps recorded as CUDA graphs.

Replayed steps are 4 to 9 times as fast for a single network (docs/log.md, 2026-11-27, "On a GPU").
"""

from __future__ import annotations

from collections.abc import Callable

import torch

Step = Callable[..., torch.Tensor]


class CudaGraphStep:
    """A step that is recorded once it was taken a few times, and replayed from then on.

    A replay runs the same kernels on the same addresses. So the step may only read its arguments, constants and the
    seed of the GPU's random numbers. It must change tensors in place and must not wait for the GPU.

    Parameters
    ----------
    step : callable
        Takes tensors of always the same shapes, returns a tensor.

    Attributes
    ----------
    warm_up : int
        Calls before the recording, in which libraries allocate and choose, and optimisers make their state.
    """

    warm_up = 3

    def __init__(self, step: Step) -> None:
        self._step, self._calls = step, 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *arguments: torch.Tensor) -> torch.Tensor:
        """Take the step; its result is the caller's own."""
        if self._calls < self.warm_up:
            self._calls += 1
            return self._on_another_stream(arguments)
        if self._graph is None:
            # A graph reads the addresses that it was recorded with, so arguments are copied to fixed tensors.
            self._places = [argument.clone() for argument in arguments]
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._result = self._step(*self._places)
            self._graph = graph
        torch._foreach_copy_(self._places, arguments)
        self._graph.replay()
        # The next replay overwrites the result, which the caller may still hold.
        return self._result.clone()

    def _on_another_stream(self, arguments: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Run a step on another stream, as in the recording, because autograd binds its objects to their stream."""
        stream, current = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            result = self._step(*arguments)
        current.wait_stream(stream)
        return result
