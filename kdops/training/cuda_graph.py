"""A training step on a GPU, recorded once and then replayed as a whole.

A step of a small network is a hundred short operations, and Python takes longer to ask for each than the processor to
do it. A CUDA graph asks for all of them at once: "Getting Started with CUDA Graphs" (Gray, 2019) has the idea.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from kdops.utils.garbage_collection import gc_paused

EAGER_CALLS = 3
"""First steps of a shape that run as they are: libraries choose their algorithms and allocate in the first ones,
and the optimizer makes what it keeps."""


class CudaGraphStep:
    """A step that is replayed where it was recorded with inputs of the same shapes.

    Each call is one real step, the recorded one included; a recording alone computes nothing.

    Args:
        step: takes tensors on the current GPU. All that it changes must lie in tensors that stay where
            they are, and it must ask the device for nothing.
        streams: the generators on the device that it draws from.
    """

    def __init__(self, step: Callable[..., None], streams: Sequence[torch.Generator] = ()):
        self.step, self.streams = step, streams
        self._aside = torch.cuda.Stream()
        self._calls: Counter[tuple[torch.Size, ...]] = Counter()
        self._recorded: dict[tuple[torch.Size, ...], tuple[torch.cuda.CUDAGraph, list[Tensor]]] = {}

    def __call__(self, *inputs: Tensor) -> None:
        """Take one step."""
        shapes = tuple(one.shape for one in inputs)
        self._calls[shapes] += 1
        if self._calls[shapes] <= EAGER_CALLS:
            self._aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._aside):
                self.step(*inputs)
            torch.cuda.current_stream().wait_stream(self._aside)
            return
        if shapes not in self._recorded:
            self._recorded[shapes] = self._record(inputs)
        graph, places = self._recorded[shapes]
        for place, one in zip(places, inputs, strict=True):
            place.copy_(one)
        graph.replay()

    def _record(self, inputs: Sequence[Tensor]) -> tuple[torch.cuda.CUDAGraph, list[Tensor]]:
        """Record one step, and the places from which it reads its inputs."""
        places, graph = [one.clone() for one in inputs], torch.cuda.CUDAGraph()
        for stream in self.streams:
            graph.register_generator_state(stream)
        # The collector might come by and free another recording meanwhile, which spoils this one.
        with gc_paused(), torch.cuda.graph(graph, stream=self._aside, capture_error_mode="thread_local"):
            self.step(*places)
        return graph, places
