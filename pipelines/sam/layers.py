"""Building blocks of EfficientViT (arXiv 2205.14756), named so that official state dicts load as they are.

Shapes: B batch, C channels, H x W the block's grid. Every norm runs with eps 1e-6.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-6
TORCH_EPS = 1e-5
"""torch's default, which SAM and the families beside EfficientViT keep."""
Activation = Callable[[], nn.Module]


def gelu() -> nn.Module:
    """The encoder's GELU is the tanh approximation; SAM's decoder uses the exact one."""
    return nn.GELU(approximate="tanh")


@runtime_checkable
class Foldable(Protocol):
    """A module that computes the same without its batch norms."""

    def fold_norm(self) -> None:
        """Put the norms' statistics into the convolutions, for inference. Does nothing the second time."""


class ConvNorm(nn.Module):
    """Convolution with same padding, then batch norm and activation where given. Without a norm it has a bias."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        groups: int = 1,
        norm: bool = True,
        bias: bool | None = None,
        act: Activation | None = None,
    ) -> None:
        super().__init__()
        bias = not norm if bias is None else bias
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias)
        self.norm = nn.BatchNorm2d(outputs, eps=EPS) if norm else None
        self.act = act() if act else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.norm is not None:
            x = self.norm(x)
        return x if self.act is None else self.act(x)

    def fold_norm(self) -> None:
        """Put the batch norm's statistics into the convolution, for inference. Does nothing the second time."""
        if self.norm is not None:
            self.conv = nn.utils.fuse_conv_bn_eval(self.conv.eval(), self.norm.eval())
            self.norm = None


class ConvBatchNorm(nn.Module):
    """Convolution with same padding, then batch norm, as TinyViT and RepViT name and compute it; no activation."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, *, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn: nn.BatchNorm2d | None = nn.BatchNorm2d(outputs, eps=TORCH_EPS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.c(x)
        return x if self.bn is None else self.bn(x)

    def fold_norm(self) -> None:
        """Put the batch norm's statistics into the convolution, for inference. Does nothing the second time."""
        if self.bn is not None:
            self.c = nn.utils.fuse_conv_bn_eval(self.c.eval(), self.bn.eval())
            self.bn = None


class OpList(nn.Module):
    """Modules in a row (`op_list` is the official checkpoints' name for it)."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.op_list = nn.ModuleList(modules)

    def forward(self, x: Tensor) -> Tensor:
        for module in self.op_list:
            x = module(x)
        return x


class Block(nn.Module):
    """`main`, with its input added to its output when `residual`."""

    def __init__(self, main: nn.Module, residual: bool = True) -> None:
        super().__init__()
        self.main = main
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        return x + self.main(x) if self.residual else self.main(x)


class ResConv(nn.Module):
    """Two 3x3 convolutions."""

    def __init__(self, channels: int, act: Activation) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels, channels, 3, act=act)
        self.conv2 = ConvNorm(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(self.conv1(x))
        return x


class DSConv(nn.Module):
    """Depthwise-separable convolution."""

    def __init__(self, channels: int, act: Activation) -> None:
        super().__init__()
        self.depth_conv = ConvNorm(channels, channels, 3, groups=channels, act=act)
        self.point_conv = ConvNorm(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.point_conv(self.depth_conv(x))
        return x


class FusedMBConv(nn.Module):
    """Expanding 3x3 convolution, then a 1x1 projection."""

    def __init__(self, inputs: int, outputs: int, expand: int, stride: int, act: Activation) -> None:
        super().__init__()
        middle = inputs * expand
        self.spatial_conv = ConvNorm(inputs, middle, 3, stride, act=act)
        self.point_conv = ConvNorm(middle, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.point_conv(self.spatial_conv(x))
        return x


class MBConv(nn.Module):
    """Inverted bottleneck. `fewer_norm`: the first two convolutions have biases instead of norms."""

    def __init__(
        self, inputs: int, outputs: int, expand: int, stride: int, act: Activation, *, fewer_norm: bool = True
    ) -> None:
        super().__init__()
        middle = inputs * expand
        norm = not fewer_norm
        self.inverted_conv = ConvNorm(inputs, middle, norm=norm, act=act)
        self.depth_conv = ConvNorm(middle, middle, 3, stride, groups=middle, norm=norm, act=act)
        self.point_conv = ConvNorm(middle, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.point_conv(self.depth_conv(self.inverted_conv(x)))
        return x


class LinearAttention(nn.Module):
    """Multi-scale ReLU linear attention (EfficientViT, section 3.1), computed in float32.

    scales: kernel sizes of the depthwise aggregation that adds a second set of heads per scale.
    """

    def __init__(self, channels: int, head_dim: int, scales: tuple[int, ...]) -> None:
        super().__init__()
        self.head_dim = head_dim
        wide = 3 * channels
        heads = channels // head_dim
        self.qkv = ConvNorm(channels, wide, norm=False, bias=False)
        self.aggreg = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(wide, wide, scale, padding=scale // 2, groups=wide, bias=False),
                nn.Conv2d(wide, wide, 1, groups=3 * heads, bias=False),
            )
            for scale in scales
        )
        self.proj = ConvNorm(channels * (1 + len(scales)), channels)

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        qkv = self.qkv(x)
        qkv = torch.cat([qkv, *(branch(qkv) for branch in self.aggreg)], dim=1)
        # B x heads x 3 head_dim x HW
        heads = qkv.reshape(batch, -1, 3 * self.head_dim, height * width)
        with torch.autocast(x.device.type, enabled=False):
            q, k, v = heads.float().split(self.head_dim, dim=2)
            q, k = F.relu(q), F.relu(k)
            v = F.pad(v, (0, 0, 0, 1), value=1.0)  # the row of ones sums the weights
            out = (v @ k.transpose(-1, -2)) @ q
            out = out[:, :, :-1] / out[:, :, -1:].clamp(min=1e-15)  # added, 1e-15 would be lost in an ONNX export
        out = out.reshape(batch, -1, height, width).to(qkv.dtype)
        return self.proj(out)


class AttentionBlock(nn.Module):
    """EfficientViT module: linear attention for context, an inverted bottleneck for local detail."""

    def __init__(self, channels: int, head_dim: int, scales: tuple[int, ...], expand: int, act: Activation) -> None:
        super().__init__()
        self.context_module = Block(LinearAttention(channels, head_dim, scales))
        self.local_module = Block(MBConv(channels, channels, expand, 1, act))

    def forward(self, x: Tensor) -> Tensor:
        x = self.local_module(self.context_module(x))
        return x


def resize(x: Tensor, side: int) -> Tensor:
    """B x C x S x S -> B x C x side x side, bicubic, computed in float32."""
    if x.is_cuda and not torch.compiler.is_compiling():
        return resize_by_products(x, side)  # torch's own kernel goes through images and channels one after the other
    return F.interpolate(x.float(), size=(side, side), mode="bicubic", align_corners=False).to(x.dtype)


def resize_by_products(x: Tensor, side: int) -> Tensor:
    """As `resize`: each axis is a matrix, which torch's own operator gives."""
    rows = torch.eye(x.shape[-1], device=x.device)[None, None]
    rows = F.interpolate(rows, size=(side, x.shape[-1]), mode="bicubic", align_corners=False)[0, 0]
    with torch.autocast(x.device.type, enabled=False):
        wide = rows @ x.permute(0, 2, 3, 1).float()  # B x S x side x C
        out = (rows @ wide.flatten(2)).unflatten(2, (side, -1))
    return out.permute(0, 3, 1, 2).to(x.dtype)


def norm_rows(x: Tensor, weight: Tensor, bias: Tensor, eps: float = EPS) -> Tensor:
    """LayerNorm over the last dimension, computed in float32; the result has the type of x."""
    if x.is_cuda and x.dtype == weight.dtype:
        return F.layer_norm(x, weight.shape, weight, bias, eps).to(x.dtype)  # it computes in float32 on its own
    return F.layer_norm(x.float(), weight.shape, weight.float(), bias.float(), eps).to(x.dtype)


class RowNorm(nn.LayerNorm):
    """LayerNorm over the last dimension, computed in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__(width, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        return norm_rows(x, self.weight, self.bias, self.eps)


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of B x C x H x W."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return norm_rows(x.permute(0, 2, 3, 1), self.weight, self.bias).permute(0, 3, 1, 2)


def fold_norms(model: nn.Module) -> nn.Module:
    """Let every module of `model` that can fold its norms do so, in place; returns the model, set to inference."""
    for module in list(model.modules()):
        if isinstance(module, Foldable):
            module.fold_norm()
    return model.eval()
