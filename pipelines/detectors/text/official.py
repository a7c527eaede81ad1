"""Grounding DINO as its authors wrote it, by the package groundingdino-py 0.4.0, with their own checkpoints.

The package asks a hub for BERT and its tokenizer when a model is built, and uses methods that transformers 5 lacks.
Here it is handed both: a BERT of the same layout, which the checkpoint fills, and captions that are token ids already.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.detectors.text.bert import Bert, BertConfig
from pipelines.detectors.text.captions import SPECIAL_TOKENS, VOCABULARY, Vocabulary
from pipelines.detectors.text.grounding_dino import FeaturesOnce, Forward, GroundingDino, TextOnce
from pipelines.detectors.text.vision import LONG, SHORT, Canvas
from weights.loading import check_state_dict, load_state_dict

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it imports from where timm no longer is
    library: Any = importlib.import_module("groundingdino.models.GroundingDINO.groundingdino")
    from groundingdino.util.misc import NestedTensor
    from transformers import BatchEncoding

_TRAINING_ONLY = ("label_enc.weight", "bert.embeddings.position_ids")
"""Entries of the official checkpoints that the model does not have."""


class OfficialGroundingDino(GroundingDino):
    """Swin-T (`groundingdino_swint_ogc.pth`) or Swin-B (`groundingdino_swinb_cogcoor.pth`)."""

    def __init__(
        self,
        weights: Path,
        *,
        config: str | Mapping[str, Any],
        bert: BertConfig | None = None,
        device: str = "cpu",
        precision: str = "fp32",
        short: int = SHORT,
        long: int = LONG,
    ) -> None:
        """weights: the checkpoint, vocab.txt beside it. config: a module of `groundingdino.config`, or its settings.

        Raises WeightsError when the checkpoint does not hold exactly this model.
        """
        vocabulary = Vocabulary(weights.with_name(VOCABULARY))
        settings = (
            vars(importlib.import_module(f"groundingdino.config.{config}")) if isinstance(config, str) else config
        )
        model = build(settings, bert or BertConfig(), vocabulary)
        _load(model, load_state_dict(weights), weights.name)
        super().__init__(vocabulary, model, _wrap(model), device=device, precision=precision, short=short, long=long)


def build(settings: Mapping[str, Any], bert: BertConfig, vocabulary: Vocabulary) -> nn.Module:
    """The library's network with random weights, our BERT and our captions in it. settings: see `groundingdino.config`.

    The library's trading of time for memory, which helps only training, is off.
    """
    chosen = {name: value for name, value in settings.items() if not name.startswith("__")}
    _ignore_warnings()
    with _given(Bert(bert), _Captions(vocabulary)):
        model: nn.Module = library.build_groundingdino(
            SimpleNamespace(**{**chosen, "use_checkpoint": False, "use_transformer_ckpt": False})
        )
    return model


class _Captions:
    """In the place of the library's tokenizer: passes on token ids."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._ids = dict(zip(SPECIAL_TOKENS, vocabulary.special_ids, strict=True))

    def convert_tokens_to_ids(self, tokens: Sequence[str]) -> list[int]:
        """Asked once, for what `SPECIAL_TOKENS` are."""
        return [self._ids[token] for token in tokens]

    def __call__(self, captions: Tensor, **_: Any) -> BatchEncoding:
        """captions: B x T token ids."""
        return BatchEncoding(
            {
                "input_ids": captions,
                "token_type_ids": torch.zeros_like(captions),
                "attention_mask": torch.ones_like(captions),
            }
        )


@contextmanager
def _given(bert: Bert, captions: _Captions) -> Iterator[None]:
    """Have the library find these where it would go to a hub, while it builds a model."""
    source = SimpleNamespace(
        get_tokenlizer=lambda _: captions,
        get_pretrained_language_model=lambda _: bert,
    )
    its_own = library.get_tokenlizer, library.BertModelWarper
    library.get_tokenlizer, library.BertModelWarper = source, lambda bert_model: bert_model
    try:
        yield
    finally:
        library.get_tokenlizer, library.BertModelWarper = its_own


def _load(model: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Fill the model. `module.` before every key is what training on several GPUs leaves."""
    bare = {key.removeprefix("module."): value for key, value in state.items()}
    wanted = {key: value for key, value in bare.items() if key not in _TRAINING_ONLY}
    check_state_dict(wanted, {key: tuple(value.shape) for key, value in model.state_dict().items()}, name)
    model.load_state_dict(wanted)


def _wrap(model: Any) -> Forward:
    model.bert = TextOnce(model.bert, lambda hidden: {"last_hidden_state": hidden})
    model.backbone = FeaturesOnce(model.backbone, model.backbone[1])

    def forward(canvas: Canvas, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        _ignore_warnings()
        found = model(NestedTensor(canvas.pixels, canvas.padding), captions=token_ids)
        return found["pred_logits"], found["pred_boxes"]

    return forward


def _ignore_warnings() -> None:
    """About old names of torch in the library. For the whole process, like those of `pipelines.images`."""
    warnings.filterwarnings("ignore", module=r"groundingdino\.")
    warnings.filterwarnings("ignore", message=r"torch\.meshgrid: in an upcoming release")
