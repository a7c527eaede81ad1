"""Files of the models that read: of the wrong model, damaged, hostile or missing; and the table's."""

from __future__ import annotations

import importlib
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.text_models import IMAGES, hub, official, small_models
from torch import Tensor

from pipelines.detectors.text import TEXT_DETECTORS
from pipelines.detectors.text.hugging_face import HuggingFaceGroundingDino
from pipelines.detectors.text.official import OfficialGroundingDino
from pipelines.detectors.text.owlv2 import Owlv2
from pipelines.errors import WeightsError
from weights import manifest

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    with small_models(tmp_path_factory.mktemp("text")) as folders:
        yield folders


class TestFiles:
    """Of the wrong model, damaged, hostile, or missing."""

    def copy(self, folder: Path, tmp_path: Path) -> Path:
        return shutil.copytree(folder, tmp_path / folder.name)

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda state: state.pop("module.feat_map.bias"), "1 missing: feat_map.bias"),
            (lambda state: state.update(extra=torch.zeros(1)), "1 unexpected: extra"),
            (
                lambda state: state.update({"module.feat_map.bias": torch.zeros(3)}),
                r"1 misshapen: feat_map.bias \(3,\) instead of \(256,\)",
            ),
        ],
    )
    def test_official_is_loaded_strictly(
        self, folders: dict[str, Path], tmp_path: Path, change: Any, reason: str
    ) -> None:
        folder = self.copy(folders["official"], tmp_path)
        path = folder / "groundingdino_swint_ogc.pth"
        checkpoint = torch.load(path, weights_only=True)
        change(checkpoint["model"])
        torch.save(checkpoint, path)
        with pytest.raises(WeightsError, match=reason):
            official(folder)

    def test_code_in_a_checkpoint_does_not_run(self, folders: dict[str, Path], tmp_path: Path) -> None:
        class Harm:
            def __reduce__(self) -> Any:
                return Path.touch, (tmp_path / "marker",)

        folder = self.copy(folders["official"], tmp_path)
        torch.save({"model": Harm()}, folder / "groundingdino_swint_ogc.pth")
        with pytest.raises(WeightsError, match="is damaged, or holds more than tensors"):
            official(folder)
        assert not (tmp_path / "marker").exists()

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda state: state.pop("model.text_projection.bias"), "missing keys model.text_projection.bias"),
            (lambda state: state.update(extra=torch.zeros(1)), "unexpected keys extra"),
            (lambda state: state.update({"model.text_projection.bias": torch.zeros(3)}), "does not work as a"),
        ],
    )
    def test_the_hubs_is_loaded_strictly(
        self, folders: dict[str, Path], tmp_path: Path, change: Any, reason: str
    ) -> None:
        from safetensors.torch import load_file, save_file

        folder = self.copy(folders["hub"], tmp_path)
        state: dict[str, Tensor] = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(WeightsError, match=reason):
            hub(folder)

    @pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
    @pytest.mark.parametrize("content", [b"", b"{", b'{"model_type": "bert"}', None])
    def test_damaged_files_of_the_hub(
        self, folders: dict[str, Path], tmp_path: Path, name: str, content: bytes | None
    ) -> None:
        folder = self.copy(folders["hub"], tmp_path)
        (folder / name).unlink()
        if content is not None:
            (folder / name).write_bytes(content)
        with pytest.raises(WeightsError, match=str(folder)) as caught:
            hub(folder)
        assert "\n" not in str(caught.value)

    def test_another_vocabulary(self, folders: dict[str, Path], tmp_path: Path) -> None:
        folder = self.copy(folders["hub"], tmp_path)
        lines = (folder / "vocab.txt").read_text("utf-8").splitlines()
        (folder / "vocab.txt").write_text("\n".join(["[extra]", *lines]), "utf-8")
        with pytest.raises(WeightsError, match=r"vocab\.txt is not the vocabulary of bert-base-uncased"):
            hub(folder)

    @pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
    def test_tokenizer_of_owlv2_missing(self, folders: dict[str, Path], tmp_path: Path, name: str) -> None:
        folder = self.copy(folders["owlv2"], tmp_path)
        (folder / name).unlink()
        with pytest.raises(WeightsError, match="holds no tokenizer of CLIP"):
            Owlv2(folder / "model.safetensors")

    def test_quiet(self, folders: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            for model in (
                official(folders["official"]),
                hub(folders["hub"]),
                Owlv2(folders["owlv2"] / "model.safetensors"),
            ):
                model.read(["cat"], alone=False)
                model(IMAGES[:1])
        assert [str(warning.message) for warning in heard] == []
        assert capfd.readouterr() == ("", "")


class TestTable:
    @pytest.mark.parametrize("name", TEXT_DETECTORS)
    def test_every_row_has_its_files_and_its_class(self, name: str) -> None:
        row = TEXT_DETECTORS[name]
        files = [file.filename for file in manifest.files(row.weights or "")]
        backend = row.load()
        if backend is OfficialGroundingDino:
            config = importlib.import_module(f"groundingdino.config.{row.options['config']}")
            assert files[1:] == ["vocab.txt"] and config.modelname == "groundingdino"
        elif backend is HuggingFaceGroundingDino:
            import transformers

            assert files == ["model.safetensors", "config.json", "vocab.txt"]
            assert hasattr(transformers, row.options["architecture"])
        else:
            assert backend is Owlv2
            assert files == ["model.safetensors", "config.json", "vocab.json", "merges.txt"]
        assert row.extra == "text"
