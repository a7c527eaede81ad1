"""BERT's encoder, under the parameter names that checkpoints use.

Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers" (NAACL 2019), section 3. groundingdino-py takes
its text encoder from transformers by ways that transformers 5 no longer has; this one depends on torch alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

_EPS = 1e-12


@dataclass(frozen=True)
class BertConfig:
    """The sizes of a BERT; the defaults are those of bert-base-uncased."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 512


class Bert(nn.Module):
    """Token ids to hidden states. Its keys and shapes are those of transformers' BertModel, the unused pooler too."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config)
        self.encoder = _Encoder(config)
        self.pooler = nn.ModuleDict({"dense": nn.Linear(config.hidden_size, config.hidden_size)})

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, token_type_ids: Tensor
    ) -> dict[str, Tensor]:
        """input_ids, position_ids, token_type_ids: B x T int64; attention_mask: B x T x T bool, may i look at j?

        Returns last_hidden_state: B x T x hidden_size.
        """
        hidden = self.embeddings(input_ids, position_ids, token_type_ids)
        return {"last_hidden_state": self.encoder(hidden, attention_mask[:, None])}


class _Embeddings(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=0)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(2, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=_EPS)

    def forward(self, input_ids: Tensor, position_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        words, types = self.word_embeddings(input_ids), self.token_type_embeddings(token_type_ids)
        return self.LayerNorm(words + types + self.position_embeddings(position_ids))


class _Encoder(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        for layer in self.layer:
            x = layer(x, mask)
        return x


class _Layer(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.heads = config.num_attention_heads
        self.attention = nn.ModuleDict({"self": _Projections(size), "output": _AddAndNorm(size, size)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(size, config.intermediate_size)})
        self.output = _AddAndNorm(config.intermediate_size, size)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        query, key, value = map(self._split, self.attention["self"](x))
        mixed = F.scaled_dot_product_attention(query, key, value, mask).transpose(1, 2).flatten(2)  # B x T x C
        x = self.attention["output"](mixed, x)
        return self.output(F.gelu(self.intermediate["dense"](x)), x)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)  # B x heads x T x C / heads


class _Projections(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(size, size) for _ in range(3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.query(x), self.key(x), self.value(x)


class _AddAndNorm(nn.Module):
    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, size)
        self.LayerNorm = nn.LayerNorm(size, eps=_EPS)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(x) + residual)
