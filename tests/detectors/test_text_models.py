"""The back ends: that official checkpoints mean the same in both, and what is done once.

The two implementations of Grounding DINO are independent. One is filled with random weights, the state dict converted
for the other: equal answers then say that each reads its own kind of checkpoint as the other does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from support import tiny_text
from support.text_models import GDINO, IMAGES, PHRASES, hub, official, small_models
from support.tiny_text import BERT, SIDES, SIZES, stripes
from torch import Tensor

from pipelines.detectors.text.bert import BertConfig
from pipelines.detectors.text.contract import Pass, TextModel
from pipelines.detectors.text.grounding_dino import FeaturesOnce, GroundingDino, TextOnce
from pipelines.detectors.text.hugging_face import HuggingFaceGroundingDino
from pipelines.detectors.text.official import OfficialGroundingDino
from pipelines.detectors.text.owlv2 import Owlv2
from pipelines.detectors.text.vision import place, scaled_size
from pipelines.types import Image

TOLERANCE = 1e-3

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    with small_models(tmp_path_factory.mktemp("text")) as folders:
        yield folders


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> tuple[GroundingDino, GroundingDino]:
    """Both implementations with the same weights, every one of them random."""
    return official(folders["official"]), hub(folders["hub"])


@pytest.fixture
def same_clamp(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the one difference between the two: before a box is refined its coordinates are kept from 0 and 1, by the
    authors by 1e-3 and by transformers by 1e-5. With random weights many boxes lie there; of a trained model's, only
    those that touch an edge of the image to within a thousandth of its size, and by no more than that.
    """
    from groundingdino.util.misc import inverse_sigmoid

    monkeypatch.setattr(torch.special, "logit", lambda x, eps: inverse_sigmoid(x, 1e-3))


def difference(found: list[list[Pass]], expected: list[list[Pass]]) -> float:
    """The largest of boxes and scores; the passes must be alike otherwise."""
    assert [len(passes) for passes in found] == [len(passes) for passes in expected]
    worst = 0.0
    for mine, theirs in zip(chain(*found), chain(*expected), strict=True):
        np.testing.assert_array_equal(mine.phrases, theirs.phrases)
        worst = max(worst, np.abs(mine.boxes - theirs.boxes).max(), np.abs(mine.scores - theirs.scores).max())
    return worst


class Choice:
    """`torch.topk` for two models in turn: the second is given the choice of the first, which must be as good to it.

    Before they look closely, both choose the best places of an image by score. Of two that score alike but for float
    noise either may come first, and what is then found there goes by the rank.
    """

    def __init__(self) -> None:
        self._topk, self._chosen, self.replay = torch.topk, list[Tensor](), False

    def __call__(self, scores: Tensor, k: int, dim: int) -> tuple[Tensor, Tensor]:
        best, indices = self._topk(scores, k, dim=dim)
        if not self.replay:
            self._chosen.append(indices)
            return best, indices
        indices = self._chosen.pop(0)
        torch.testing.assert_close(scores.gather(dim, indices), best, atol=TOLERANCE, rtol=0)
        return best, indices


@contextmanager
def same_choice() -> Iterator[Choice]:
    with pytest.MonkeyPatch.context() as patch:
        choice = Choice()
        patch.setattr(torch, "topk", choice)
        yield choice


def compare(models: Sequence[GroundingDino], images: list[Image]) -> dict[str, float]:
    """The largest differences of the two models' answers, and how much the answers themselves vary."""
    canvas = place(images, torch.device("cpu"), *models[0]._sides)
    (caption,) = models[0]._vocabulary.captions(PHRASES)
    with same_choice() as choice:
        logits, boxes = models[0].predict(canvas, caption.token_ids)
        choice.replay = True
        logits_, boxes_ = models[1].predict(canvas, caption.token_ids)
    assert logits.shape == (*boxes.shape[:2], 256) and boxes.shape[::2] == (len(images), 4)
    text = np.s_[..., : len(caption.token_ids)]
    assert logits[text].isfinite().all() and (logits[..., len(caption.token_ids) :] == -torch.inf).all()
    return {
        "pred_logits": float((logits - logits_)[text].abs().max()),
        "pred_boxes": float((boxes - boxes_).abs().max()),
        "logits vary by": float(logits[text].std()),
        "boxes vary by": float(boxes.std(dim=1).min()),
    }


class TestAgreement:
    @pytest.mark.parametrize("images", [IMAGES[:1], IMAGES], ids=["one image", "three sizes on one canvas"])
    def test_logits_and_boxes(
        self, models: tuple[GroundingDino, GroundingDino], same_clamp: None, images: list[Image]
    ) -> None:
        found = compare(models, images)
        assert found["logits vary by"] > 1 and found["boxes vary by"] > 0.005, "answers alike would prove nothing"
        assert found["pred_logits"] < TOLERANCE and found["pred_boxes"] < TOLERANCE, found

    def test_as_built(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """With the weights that the library itself starts from, nothing needs to be removed."""
        tiny_text.shrink_swin(monkeypatch)
        settings = tiny_text.official_settings(**SIZES)
        state = tiny_text.write_official(tmp_path / "a", settings, BERT, "groundingdino_swint_ogc.pth", refill=False)
        tiny_text.write_hugging_face(tmp_path / "b", state, BERT, **tiny_text.TINY_CONFIG)
        found = compare([official(tmp_path / "a"), hub(tmp_path / "b")], IMAGES)
        assert found["logits vary by"] > 1
        assert found["pred_logits"] < TOLERANCE and found["pred_boxes"] < TOLERANCE, found

    @pytest.mark.parametrize("alone", [False, True])
    def test_passes(self, models: tuple[GroundingDino, GroundingDino], same_clamp: None, alone: bool) -> None:
        for model in models:
            model.read(PHRASES, alone=alone)
        with same_choice() as choice:
            found = models[0](IMAGES)
            choice.replay = True
            expected = models[1](IMAGES)
        assert [passed.phrases.tolist() for passed in found[0]] == ([[0], [1], [2]] if alone else [[0, 1, 2]])
        assert difference(found, expected) < TOLERANCE

    @pytest.mark.parametrize(("name", "architecture"), [("hub", GDINO), ("mm", "MMGroundingDinoForObjectDetection")])
    def test_the_library_called_as_its_manual_says(
        self, folders: dict[str, Path], name: str, architecture: str
    ) -> None:
        """Encoding text and images once changes nothing: transformers' own processor and model give the same."""
        import transformers

        folder, image = folders[name], IMAGES[0]
        processor = transformers.GroundingDinoImageProcessor(
            size={"shortest_edge": SIDES["short"], "longest_edge": SIDES["long"]}
        )
        inputs = processor(image.pixels, return_tensors="pt")
        canvas = place([image], torch.device("cpu"), **SIDES)
        assert inputs.pixel_values.shape == canvas.pixels.shape
        assert (inputs.pixel_values - canvas.pixels).abs().mean() < 0.05  # it scales by another filter
        text = transformers.BertTokenizer.from_pretrained(str(folder))(
            "red car . cat . hard hat .", return_tensors="pt"
        )
        library = getattr(transformers, architecture).from_pretrained(folder).eval()
        with torch.inference_mode():
            expected = library(**{**inputs, "pixel_values": canvas.pixels}, **text)
        ours = hub(folder, architecture=architecture)
        (caption,) = ours._vocabulary.captions(PHRASES)
        assert list(caption.token_ids) == text.input_ids[0].tolist()
        logits, boxes = ours.predict(canvas, caption.token_ids)
        torch.testing.assert_close(logits, expected.logits, atol=1e-4, rtol=0)
        torch.testing.assert_close(boxes, expected.pred_boxes, atol=1e-5, rtol=0)

    def test_a_second_look_gives_the_same(self, models: tuple[GroundingDino, GroundingDino]) -> None:
        for model in models:
            model.read(PHRASES[:2], alone=True)
            first = model(IMAGES[:2])
            assert difference(model(IMAGES[:2]), first) == 0
            model.read(PHRASES[:2], alone=True)
            assert difference(model(IMAGES[:2]), first) == 0

    def test_bf16(self, folders: dict[str, Path], models: tuple[GroundingDino, GroundingDino]) -> None:
        if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            pytest.skip("no bf16 arithmetic here")
        rough = official(folders["official"], precision="bf16"), hub(folders["hub"], precision="bf16")
        for exact, fast in zip(models, rough, strict=True):
            for model in (exact, fast):
                model.read(PHRASES, alone=False)
            ((expected,),), ((found,),) = exact(IMAGES[:1]), fast(IMAGES[:1])
            assert found.scores.dtype == found.boxes.dtype == np.float32
            best = np.argsort(-expected.scores.max(1))[:10]
            assert 0 < np.abs(expected.scores[best] - found.scores[best]).mean() < 0.2

    @pytest.mark.slow
    @pytest.mark.parametrize("refill", [False, True], ids=["as built", "all random"])
    def test_at_real_size(
        self, tmp_path: Path, photograph: np.ndarray, request: pytest.FixtureRequest, refill: bool
    ) -> None:
        """Swin-T and BERT as published, a photograph at 800 x 1066 pixels, 900 boxes."""
        if refill:
            request.getfixturevalue("same_clamp")
        settings = tiny_text.official_settings()
        file = "groundingdino_swint_ogc.pth"
        state = tiny_text.write_official(tmp_path / "a", settings, BertConfig(), file, refill=refill)
        tiny_text.write_hugging_face(tmp_path / "b", state, BertConfig())
        del state
        models = [
            OfficialGroundingDino(tmp_path / "a" / file, config="GroundingDINO_SwinT_OGC"),
            HuggingFaceGroundingDino(tmp_path / "b" / "model.safetensors", architecture=GDINO),
        ]
        found = compare(models, [Image("photograph", photograph)])
        print(found)
        assert found["logits vary by"] > 1
        assert found["pred_logits"] < TOLERANCE and found["pred_boxes"] < TOLERANCE, found


class TestOnce:
    def calls(self, module: torch.nn.Module) -> list[int]:
        seen: list[int] = []
        module.register_forward_hook(lambda *_: seen.append(1))
        return seen

    def parts(self, model: GroundingDino) -> tuple[TextOnce, FeaturesOnce]:
        modules = list(model._model.modules())
        (text,) = (module for module in modules if isinstance(module, TextOnce))
        (features,) = (module for module in modules if isinstance(module, FeaturesOnce))
        return text, features

    @pytest.mark.parametrize("which", [0, 1], ids=["official", "hub"])
    def test_text_once_a_run_and_features_once_an_image(
        self, models: tuple[GroundingDino, GroundingDino], which: int
    ) -> None:
        model = models[which]
        text, features = self.parts(model)
        encoded, seen = self.calls(text.encoder), self.calls(features.backbone)
        model.read(PHRASES, alone=True)
        for image in IMAGES:
            model([image])
        assert (len(encoded), len(seen)) == (len(PHRASES), len(IMAGES))
        model.read(["cat"], alone=False)
        model(IMAGES)
        assert (len(encoded), len(seen)) == (len(PHRASES) + 1, len(IMAGES) + 1)
        assert features._canvas is None, "features are kept after they were used"

    def test_owlv2_reads_once(self, folders: dict[str, Path]) -> None:
        model = Owlv2(folders["owlv2"] / "model.safetensors")
        encoded = self.calls(model._model.owlv2.text_model)
        model.read(["a cat", "a bus"], alone=True)
        for image in IMAGES:
            model([image])
        assert len(encoded) == 1


class TestVision:
    @pytest.mark.parametrize(
        "shape", [(480, 640), (640, 480), (100, 100), (800, 801), (3000, 100), (17, 900), (500, 1333), (1080, 810)]
    )
    def test_is_what_the_authors_do(self, shape: tuple[int, int]) -> None:
        import PIL.Image
        from groundingdino.datasets import transforms

        pixels = stripes(*shape)
        expected, _ = transforms.Compose(
            [
                transforms.RandomResize([800], max_size=1333),
                transforms.ToTensor(),
                transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            ]
        )(PIL.Image.fromarray(pixels), None)
        canvas = place([Image("a", pixels)], torch.device("cpu"))
        height, width = expected.shape[1:]
        torch.testing.assert_close(canvas.pixels[0, :, :height, :width], expected, atol=1e-6, rtol=0)
        padding = canvas.padding.clone()
        padding[:, :height, :width] = ~padding[:, :height, :width]
        assert padding.all() and (canvas.pixels[:, :, height:] == 0).all() and (canvas.pixels[..., width:] == 0).all()

    @pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (1, 40), (2, 3)])
    def test_thin_images(self, models: tuple[GroundingDino, GroundingDino], shape: tuple[int, int]) -> None:
        height, width = scaled_size(*shape)
        assert 1 <= min(height, width) and max(height, width) <= 1333
        canvas = place([Image("thin", stripes(*shape))], torch.device("cpu"))
        places = sum(-(-canvas.pixels.shape[2] // s) * -(-canvas.pixels.shape[3] // s) for s in (8, 16, 32, 64))
        assert places >= 900, "the model chooses 900"
        for model in models:
            model.read(["cat"], alone=False)
            ((found,),) = model([Image("thin", stripes(*shape))])
            assert np.isfinite(found.boxes).all() and np.isfinite(found.scores).all()

    def test_no_images(self, folders: dict[str, Path], models: tuple[GroundingDino, GroundingDino]) -> None:
        every: list[TextModel] = [*models, Owlv2(folders["owlv2"] / "model.safetensors")]
        for model in every:
            model.read(["cat"], alone=False)
            assert model([]) == []


def test_mm_grounding_dino(folders: dict[str, Path]) -> None:
    model = hub(folders["mm"], architecture="MMGroundingDinoForObjectDetection")
    model.read(PHRASES, alone=False)
    passes = model(IMAGES)
    assert all(found.scores.shape == (60, 3) and (found.scores > 0).all() for (found,) in passes)
