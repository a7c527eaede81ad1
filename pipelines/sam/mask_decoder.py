"""SAM's mask decoder (arXiv 2304.02643, appendix A), arranged so that many prompts on one image are cheap.

Same function as the reference, in another order of operations:
- Until the end of the first layer every prompt sees the same image tokens, so what the first layer derives from them
  (keys and values for the prompt tokens, queries for the way back) is computed once per image.
- Where image tokens differ per prompt, they are many (G * G) and prompt tokens few (T): the projections are applied to
  the few. `softmax(q Wk x) x Wv` needs no projected image, only q folded through Wk, and the weighted sum through Wv.
- Projections of the positional encoding, the same for every image and prompt, are computed once.
- The transposed convolutions have stride = kernel, so they are matrix products on rows; rows are put in image order
  only at the end, for the masks that are kept.

Shapes: B images, N prompts, T tokens of a prompt, L = G * G image tokens, H heads, C = 256.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.sam.layers import EPS, ChannelNorm, RowNorm, norm_rows

MASKS = 4
"""Mask tokens: 0 for a single mask, 1 to 3 for multi-mask output."""


class Attention(nn.Module):
    """Projections of one attention; `inner` is its total head width."""

    heads = 8

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(256, inner)
        self.k_proj = nn.Linear(256, inner)
        self.v_proj = nn.Linear(256, inner)
        self.out_proj = nn.Linear(inner, 256)
        self.scale = (inner // self.heads) ** -0.5

    def split(self, x: Tensor) -> Tensor:
        """... x S x inner -> ... x H x S x D."""
        return x.unflatten(-1, (self.heads, -1)).transpose(-3, -2)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Plain attention among the few tokens: N x T x C each."""
        heads = (self.split(self.q_proj(q)), self.split(self.k_proj(k)), self.split(self.v_proj(v)))
        out = F.scaled_dot_product_attention(*heads)
        return self.out_proj(out.transpose(-3, -2).flatten(-2))

    def read_image(self, q: Tensor, image: Tensor, pe: Tensor) -> Tensor:
        """Tokens q N x T x C attend to their own image tokens N x L x C; pe H x L x D: keys of the positions alone."""
        q = self.split(self.q_proj(q)) * self.scale  # N x H x T x D
        wk = self.k_proj.weight.unflatten(0, (self.heads, -1))  # H x D x C
        folded = (q @ wk).flatten(1, 2)  # N x HT x C
        scores = torch.baddbmm((q @ pe.mT).flatten(1, 2), folded, image.transpose(1, 2))  # N x HT x L
        context = scores.softmax(-1) @ image  # N x HT x C
        wv = self.v_proj.weight.unflatten(0, (self.heads, -1))
        out = context.unflatten(1, (self.heads, -1)) @ wv.transpose(-1, -2)  # N x H x T x D
        return self.out_proj(out.transpose(1, 2).flatten(2) + self.v_proj.bias)

    def write_image(self, image: Tensor, scores: Tensor, v: Tensor) -> Tensor:
        """image N|1 x L x C plus what its tokens read from v N x T x C, given scores N x H x T x L."""
        weights = scores.softmax(2).flatten(1, 2)  # N x HT x L
        wo = self.out_proj.weight.T.unflatten(0, (self.heads, -1))  # H x D x C
        bias = self.out_proj.bias / self.heads  # each head's weights sum to one
        folded = (self.split(self.v_proj(v)) @ wo + bias).flatten(1, 2)  # N x HT x C
        return torch.baddbmm(image.expand(v.shape[0], -1, -1), weights.transpose(1, 2), folded)

    def query_image(self, image: Tensor, pe: Tensor, k: Tensor) -> Tensor:
        """Scores N x H x T x L of image tokens N x L x C for tokens k N x T x C; pe H x L x D: queries of positions."""
        k = self.split(self.k_proj(k)) * self.scale  # N x H x T x D
        folded = (k @ self.q_proj.weight.unflatten(0, (self.heads, -1))).flatten(1, 2)  # N x HT x C
        scores = torch.baddbmm((k @ pe.mT).flatten(1, 2), folded, image.transpose(1, 2))
        return scores.unflatten(1, (self.heads, -1))


class ImageSide(NamedTuple):
    """What the first layer derives from each image alone: keys, values, queries, each B x H x L x D. detail: what a
    decoder has beside, B x ..., or None."""

    k: Tensor
    v: Tensor
    q: Tensor
    detail: Tensor | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> ImageSide:
        """Every part changed."""
        return ImageSide._make(None if part is None else change(part) for part in self)


class Positions(NamedTuple):
    """What the later attentions derive from the positional encoding alone, each H x L x D with its bias."""

    read: Tensor
    write: Tensor
    last: Tensor


Act = Callable[[Tensor], Tensor]


class Mlp(nn.Module):
    """The transformer's feed-forward block."""

    def __init__(self, act: Act) -> None:
        super().__init__()
        self.act = act
        self.lin1 = nn.Linear(256, 2048)
        self.lin2 = nn.Linear(2048, 256)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lin2(self.act(self.lin1(x)))
        return x


class Head(nn.Module):
    """Three linear layers, 256 wide, an activation after the first two."""

    def __init__(self, outputs: int, act: Act = F.relu) -> None:
        super().__init__()
        self.act = act
        self.layers = nn.ModuleList([nn.Linear(256, 256), nn.Linear(256, 256), nn.Linear(256, outputs)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.layers[0](x))
        x = self.act(self.layers[1](x))
        x = self.layers[2](x)
        return x


class TwoWayLayer(nn.Module):
    """Tokens attend to each other, then to the image; then the image attends to the tokens."""

    def __init__(self, eps: float, act: Act) -> None:
        super().__init__()
        self.self_attn = Attention(256)
        self.norm1 = RowNorm(256, eps)
        self.cross_attn_token_to_image = Attention(128)
        self.norm2 = RowNorm(256, eps)
        self.mlp = Mlp(act)
        self.norm3 = RowNorm(256, eps)
        self.norm4 = RowNorm(256, eps)
        self.cross_attn_image_to_token = Attention(128)

    def image_side(self, image: Tensor, pe: Tensor) -> ImageSide:
        """The part of this layer that depends on the image only. image: B x L x C, pe: L x C."""
        read, write = self.cross_attn_token_to_image, self.cross_attn_image_to_token
        encoded = image + pe
        k, v, q = read.k_proj(encoded), read.v_proj(image), write.q_proj(encoded)
        return ImageSide(read.split(k), read.split(v), write.split(q))

    def first(self, image: Tensor, side: ImageSide, prompts: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """The layer for image tokens that prompts still share: image B x L x C, prompts N x T x C, index N in B."""
        tokens = self.norm1(self.among_prompts(prompts))
        read, write = self.cross_attn_token_to_image, self.cross_attn_image_to_token
        q = read.split(read.q_proj(tokens + prompts))
        out = F.scaled_dot_product_attention(q, take(side.k, index), take(side.v, index))
        tokens = self.norm2(tokens + read.out_proj(out.transpose(1, 2).flatten(2)))
        tokens = self.norm3(tokens + self.mlp(tokens))
        k = write.split(write.k_proj(tokens + prompts)) * write.scale  # N x H x T x D
        scores = k @ take(side.q, index).transpose(-1, -2)  # N x H x T x L
        return tokens, self.norm4(write.write_image(take(image, index), scores, tokens))

    def forward(self, tokens: Tensor, image: Tensor, prompts: Tensor, positions: Positions) -> tuple[Tensor, Tensor]:
        """The layer for image tokens of each prompt's own: tokens and prompts N x T x C, image N x L x C."""
        tokens = self.norm1(self.among_tokens(tokens, prompts))
        tokens = self.norm2(tokens + self.cross_attn_token_to_image.read_image(tokens + prompts, image, positions.read))
        tokens = self.norm3(tokens + self.mlp(tokens))
        write = self.cross_attn_image_to_token
        scores = write.query_image(image, positions.write, tokens + prompts)
        return tokens, self.norm4(write.write_image(image, scores, tokens))

    def among_prompts(self, prompts: Tensor) -> Tensor:
        """What becomes of the tokens in the first layer, before the norm."""
        attended: Tensor = self.self_attn(prompts, prompts, prompts)
        return attended

    def among_tokens(self, tokens: Tensor, prompts: Tensor) -> Tensor:
        """The same in the other layers."""
        q = tokens + prompts
        return tokens + self.self_attn(q, q, tokens)


def take(x: Tensor, index: Tensor) -> Tensor:
    """Rows of x by prompt; a single image is broadcast instead of copied."""
    return x.expand(index.shape[0], *x.shape[1:]) if x.shape[0] == 1 else x[index]


class TwoWayTransformer(nn.Module):
    """Two two-way layers and a last look of the tokens at the image."""

    def __init__(self, eps: float, act: Act, layer: type[TwoWayLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList([layer(eps, act), layer(eps, act)])
        self.final_attn_token_to_image = Attention(128)
        self.norm_final_attn = RowNorm(256, eps)

    @property
    def first(self) -> TwoWayLayer:
        return cast(TwoWayLayer, self.layers[0])

    @property
    def second(self) -> TwoWayLayer:
        return cast(TwoWayLayer, self.layers[1])


class DecoderState(NamedTuple):
    """tokens: N x T x C; image: N x L x C, both after the transformer; iou: N x 4 predicted IoU per mask token.
    detail: logits N x 4G x 4G of the image's detail, where there is any.
    """

    tokens: Tensor
    image: Tensor
    iou: Tensor
    detail: Tensor | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> DecoderState:
        """Every part changed."""
        return DecoderState._make(None if part is None else change(part) for part in self)

    def take(self, prompts: Tensor) -> DecoderState:
        """Only these prompts, by index."""
        return self.each(lambda part: part[prompts])


class MaskDecoder(nn.Module):
    """Prompts on images -> predicted IoU and low-res masks.

    eps: of the transformer's norms. act: between linear layers. layer: what the transformer is made of.
    """

    def __init__(self, eps: float = EPS, act: Act = F.relu, layer: type[TwoWayLayer] = TwoWayLayer) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer(eps, act, layer)
        self.iou_token = nn.Embedding(1, 256)
        self.mask_tokens = nn.Embedding(MASKS, 256)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(256, 64, 2, 2),
            ChannelNorm(64),
            nn.GELU(),
            nn.ConvTranspose2d(64, 32, 2, 2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(Head(32, act) for _ in range(MASKS))
        self.iou_prediction_head = Head(MASKS, act)

    def image_side(self, src: Tensor, pe: Tensor, *more: Tensor) -> tuple[Tensor, ImageSide]:
        """Once per image. src: B x 256 x G x G embedding plus dense prompt; pe: L x C; more: features beside the
        embedding. Pass the result to `decode`."""
        image = src.flatten(2).transpose(1, 2).contiguous()
        return image, self.transformer.first.image_side(image, pe)

    def positions(self, pe: Tensor) -> Positions:
        """Once for all images. pe: L x C. Pass the result to `decode`."""
        second = self.transformer.second
        read, write = second.cross_attn_token_to_image, second.cross_attn_image_to_token
        last = self.transformer.final_attn_token_to_image
        return Positions(*(read.split(part(pe)) for part in (read.k_proj, write.q_proj, last.k_proj)))

    def decode(
        self, image: Tensor, side: ImageSide, positions: Positions, sparse: Tensor, index: Tensor
    ) -> DecoderState:
        """Run the transformer for prompts sparse N x T' x C, prompt i on image index[i]."""
        prompts = torch.cat([self.own_tokens().expand(sparse.shape[0], -1, -1), sparse], dim=1)
        tokens, seen = self.transformer.first.first(image, side, prompts, index)
        tokens, seen = self.transformer.second(tokens, seen, prompts, positions)
        last = self.transformer.final_attn_token_to_image
        tokens = self.transformer.norm_final_attn(tokens + last.read_image(tokens + prompts, seen, positions.last))
        return DecoderState(tokens, seen, self.iou_prediction_head(tokens[:, 0]))

    def own_tokens(self) -> Tensor:
        """Before the prompt's: one for the IoU, one for each mask."""
        return torch.cat([self.iou_token.weight, self.mask_tokens.weight])

    def masks(self, decoded: DecoderState, which: Tensor | None = None) -> Tensor:
        """Low-res mask logits N x K x 4G x 4G of mask tokens `which` (N x K, 0 to 3); None: of all four."""
        return in_image_order(self.weights(decoded, which) @ self.upscaled(decoded).transpose(1, 2))

    def weights(self, decoded: DecoderState, which: Tensor | None) -> Tensor:
        """N x K x 32: what the masks of tokens `which` weigh the channels of `upscaled` with."""
        tokens = decoded.tokens[:, 1 : 1 + MASKS]
        hyper = torch.stack([head(tokens[:, i]) for i, head in enumerate(self.output_hypernetworks_mlps)], dim=1)
        return hyper if which is None else hyper.gather(1, which[..., None].expand(-1, -1, hyper.shape[-1]))

    def upscaled(self, decoded: DecoderState) -> Tensor:
        """Image tokens, each become 4 x 4: N x (L, 2x2, 2x2) x 32."""
        up1, _, act, up2, _ = self.output_upscaling
        x = act(self.norm_upscaled(_upscale_rows(up1, decoded.image)))  # N x (L, 2x2) x 64
        return act(_upscale_rows(up2, x))

    def norm_upscaled(self, rows: Tensor) -> Tensor:
        """`output_upscaling`'s norm, on N x R x 64."""
        norm = self.output_upscaling[1]
        assert isinstance(norm, ChannelNorm)
        return norm_rows(rows, norm.weight, norm.bias)

    def forward(self, src: Tensor, pe: Tensor, sparse: Tensor, index: Tensor, *more: Tensor) -> tuple[Tensor, Tensor]:
        """All four masks, for training: low-res logits N x 4 x 4G x 4G and predicted IoU N x 4."""
        decoded = self.decode(*self.image_side(src, pe, *more), self.positions(pe), sparse, index)
        return self.masks(decoded)[:, :MASKS], decoded.iou


def in_image_order(rows: Tensor) -> Tensor:
    """N x K x (L, 2x2, 2x2) -> N x K x 4G x 4G."""
    grid = int((rows.shape[-1] // 16) ** 0.5)
    rows = rows.unflatten(-1, (grid, grid, 2, 2, 2, 2)).permute(0, 1, 2, 4, 6, 3, 5, 7)
    return rows.reshape(*rows.shape[:2], 4 * grid, 4 * grid)


def _upscale_rows(conv: nn.Module, rows: Tensor) -> Tensor:
    """A 2x2, stride-2 transposed convolution on rows N x R x I: each row becomes four, (2x2), of O channels."""
    assert isinstance(conv, nn.ConvTranspose2d) and conv.bias is not None
    weight = conv.weight.permute(0, 2, 3, 1).flatten(1)  # I x (2, 2, O)
    out = F.linear(rows, weight.T, conv.bias.repeat(4))
    return out.reshape(rows.shape[0], -1, conv.out_channels)
