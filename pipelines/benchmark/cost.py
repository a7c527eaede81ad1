"""What a model costs on paper: its parameters and multiply-accumulates, which no machine and no weights change."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from pipelines.sam import SAMS

REFERENCE = "sam-vit-h"
"""What efficiency is compared with."""


@dataclass(frozen=True)
class Cost:
    """parameters: of the whole model. macs: multiply-accumulates of the encoder for one image, as papers count them."""

    parameters: int
    macs: int

    def error_rate(self, reference: Cost) -> float:
        """The Efficient Error Rate of arXiv 2309.02031, which arXiv 2410.04960 takes up: the mean of this model's
        metrics over the reference's, here parameters and MACs. Lower is better, the reference's own is 1.
        """
        return (self.parameters / reference.parameters + self.macs / reference.macs) / 2


@cache
def cost_of(name: str) -> Cost:
    """The cost of a SAM by its name, found by running it on tensors without data."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    row = SAMS[name]
    counted = sdpa_kernel(SDPBackend.MATH)  # the counter of torch 2.14 does not know the CPU's fused attention
    with FakeTensorMode(), torch.no_grad(), counted, FlopCounterMode(display=False) as counter:
        sam = row.load()(**row.options).build()  # as it is trained: what is faster in inference may multiply more
        sam.encode(torch.empty(1, 3, sam.input_size, sam.input_size))
    return Cost(sum(p.numel() for p in sam.parameters()), counter.get_total_flops() // 2)
