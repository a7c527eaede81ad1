"""Which of a prompt's masks answers it: the mask tokens that count, and what ranks their masks.

The decoder makes four masks of a prompt: token 0 is meant for a prompt of one meaning, tokens 1 to 3 are three readings
of an ambiguous one. Families differ in which of them they look at, and in what they trust.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from pipelines.sam.network import Decoded

SINGLE = (0,)
MULTI = (1, 2, 3)
EVERY = (0, 1, 2, 3)


@dataclass(frozen=True)
class Ranked:
    """K masks of each of N prompts. tokens: N x K int64, their mask tokens. scores: N x K float32, higher is better.
    low_res: N x K x 256 x 256 logits where the scores needed them, else None.
    """

    decoded: Decoded
    tokens: Tensor
    scores: Tensor
    low_res: Tensor | None = None

    def masks(self) -> Tensor:
        """N x K x 256 x 256 logits."""
        return self.decoded.masks(self.tokens) if self.low_res is None else self.low_res

    def take(self, prompts: Tensor) -> Ranked:
        """Only these prompts, by index."""
        low_res = None if self.low_res is None else self.low_res[prompts]
        return Ranked(self.decoded.take(prompts), self.tokens[prompts], self.scores[prompts], low_res)

    def best(self) -> Ranked:
        """The best mask of each prompt: K = 1."""
        scores, which = self.scores.max(1, keepdim=True)
        low_res = None if self.low_res is None else self.low_res.take_along_dim(which[..., None, None], 1)
        return Ranked(self.decoded, self.tokens.gather(1, which), scores, low_res)


Ranking = Callable[["Decoded", Tensor], Ranked]
"""Of the masks of tokens N x K."""


def by_predicted_iou(decoded: Decoded, tokens: Tensor) -> Ranked:
    """As SAM does (arXiv 2304.02643, section 3)."""
    return Ranked(decoded, tokens, decoded.iou.gather(1, tokens))


def by_stability(decoded: Decoded, tokens: Tensor) -> Ranked:
    """By the share of low-res pixels above -1 that are above 1, 0 without any: where the IoU head is untrained."""
    low_res = decoded.masks(tokens)
    inner, outer = ((low_res > level).sum((2, 3)) for level in (1.0, -1.0))
    return Ranked(decoded, tokens, inner / outer.clamp(min=1), low_res)


@dataclass(frozen=True)
class MaskChoice:
    """boxes, clicks: the tokens whose best mask answers prompts with a box, and prompts of clicks alone. multi: the
    tokens that `multimask_output` gives and `everything` looks at; best_alone: only the best of these. rank: what
    scores them. detail: the token of a mask that the others hold already, see `pipelines.sam.encoders.hq`.
    """

    boxes: tuple[int, ...] = MULTI
    clicks: tuple[int, ...] = MULTI
    multi: tuple[int, ...] = MULTI
    best_alone: bool = False
    rank: Ranking = by_predicted_iou
    detail: int | None = None

    def ranked(self, decoded: Decoded, tokens: tuple[int, ...]) -> Ranked:
        """The masks of these tokens, with their scores."""
        which = torch.tensor([tokens], device=decoded.iou.device)
        ranked = self.rank(decoded, which.expand(len(decoded.iou), -1))
        return ranked.best() if self.best_alone else ranked

    def best(self, decoded: Decoded, *, boxes: bool) -> Ranked:
        """The one mask that answers each prompt. boxes: whether the prompts have any."""
        return self.ranked(decoded, self.boxes if boxes else self.clicks).best()
