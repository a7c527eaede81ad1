"""What the models that read are made of, each against its source: BERT and OWLv2."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from support import tiny_text
from support.text_models import IMAGES, small_models
from support.tiny_text import BERT

from pipelines.detectors.text.bert import Bert, BertConfig
from pipelines.detectors.text.owlv2 import Owlv2
from pipelines.errors import UsageError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    with small_models(tmp_path_factory.mktemp("text")) as folders:
        yield folders


class TestBert:
    def test_equals_transformers(self) -> None:
        from transformers import BertConfig as TheirConfig
        from transformers import BertModel

        theirs = BertModel(TheirConfig(**vars(BERT)), add_pooling_layer=True).eval()
        state = tiny_text.fill(theirs)
        ours = Bert(BERT).eval()
        ours.load_state_dict(state)
        ids = torch.randint(0, BERT.vocab_size, (2, 9), generator=torch.Generator().manual_seed(0))
        mask = torch.eye(9, dtype=torch.bool) | (torch.arange(9)[:, None] // 3 == torch.arange(9) // 3)
        positions, types = (torch.arange(9) % 3).expand(2, -1), torch.zeros_like(ids)
        their_mask = mask.expand(2, 1, 9, 9) if version("transformers") >= "5" else mask.expand(2, 9, 9)
        with torch.inference_mode():
            expected = theirs(ids, their_mask, types, positions).last_hidden_state
            found = ours(ids, mask.expand(2, 9, 9), positions, types)["last_hidden_state"]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)

    def test_the_layout_of_bert_base_uncased(self) -> None:
        with torch.device("meta"):
            state = Bert(BertConfig()).state_dict()
        assert len(state) == 199 and sum(x.numel() for x in state.values()) == 109_482_240


class TestOwlv2:
    def test_is_what_the_library_does(self, folders: dict[str, Path]) -> None:
        from transformers import Owlv2ForObjectDetection, Owlv2ImageProcessor

        folder = folders["owlv2"]
        ours = Owlv2(folder / "model.safetensors")
        phrases = ["cat", "a red bus"]
        ours.read(phrases, alone=False)
        library = Owlv2ForObjectDetection.from_pretrained(folder).eval()
        processor = Owlv2ImageProcessor(size={"height": 96, "width": 96})
        rows = [ours._tokenizer(phrase).input_ids for phrase in phrases]
        ids = torch.tensor([row + [0] * (16 - len(row)) for row in rows])
        real = torch.tensor([[1] * len(row) + [0] * (16 - len(row)) for row in rows])
        for image in IMAGES:
            pixels = processor(image.pixels, return_tensors="pt").pixel_values
            height, width = (round(96 * side / max(image.width, image.height)) for side in image.pixels.shape[:2])
            inside = np.s_[..., : height - 1, : width - 1]  # around it, it pads with grey up to 4.57, then with black
            assert (pixels - ours.place([image]))[inside].abs().mean() < 0.05  # and it scales by another filter
            with torch.inference_mode():
                expected = library(input_ids=ids, attention_mask=real, pixel_values=ours.place([image]))
            ((found,),) = ours([image])
            np.testing.assert_allclose(found.scores, expected.logits[0].sigmoid(), atol=1e-5)
            side = max(image.width, image.height)
            shares = np.array([side / image.width, side / image.height] * 2, np.float32)
            np.testing.assert_allclose(found.boxes, expected.pred_boxes[0].numpy() * shares, rtol=0.02)

    def test_alone_or_together_the_scores_are_the_same(self, folders: dict[str, Path]) -> None:
        model = Owlv2(folders["owlv2"] / "model.safetensors")
        model.read(["cat", "bus"], alone=False)
        ((together,),) = model(IMAGES[:1])
        model.read(["cat", "bus"], alone=True)
        (apart,) = model(IMAGES[:1])
        for column, single in enumerate(apart):
            assert single.phrases.tolist() == [column]
            np.testing.assert_array_equal(single.scores[:, 0], together.scores[:, column])

    def test_a_phrase_without_a_word(self, folders: dict[str, Path]) -> None:
        model = Owlv2(folders["owlv2"] / "model.safetensors")
        with pytest.raises(UsageError, match="there is no word in the phrase"):
            model.read(["cat", "\u3000"], alone=False)

    def test_a_phrase_too_long_is_refused_not_cut(self, folders: dict[str, Path]) -> None:
        model = Owlv2(folders["owlv2"] / "model.safetensors")
        with pytest.raises(UsageError, match="has 15 tokens, but OWLv2 reads 14"):
            model.read(["cat", "x" * 15], alone=False)
