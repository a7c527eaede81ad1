"""Small Grounding DINOs and OWLv2s: random weights, the files as they lie in the cache, and a small vocabulary."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from support.dino_layout import to_hugging_face
from support.seeded import weights_for
from torch import Tensor, nn

from pipelines.detectors.text.bert import BertConfig

WORDS = (
    "red blue green black white car cat dog hat person people man woman in a the with on of and block orange "
    "brick bus street tie face helmet hard worker sky tree window door ##s ##ing ##ed ##er ##ball"
).split()
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789-&'/猫犬éß"
SPECIAL = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}

SWIN = {"embed_dim": 32, "depths": [2, 2, 2, 2], "num_heads": [1, 2, 4, 8], "window_size": 7}
BERT = BertConfig(
    vocab_size=1200,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    max_position_embeddings=64,
)
SIZES = {"enc_layers": 2, "dec_layers": 2, "dim_feedforward": 64, "num_queries": 60}
SIDES = {"short": 160, "long": 320}


def write_vocabulary(folder: Path) -> Path:
    """A vocab.txt whose special tokens have the ids they have in bert-base-uncased."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = [SPECIAL.get(id, f"[unused{id}]") for id in range(1030)]
    path = folder / "vocab.txt"
    path.write_text("\n".join([*tokens, *WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS)]) + "\n", "utf-8")
    return path


def official_settings(**changes: Any) -> dict[str, Any]:
    import groundingdino.config.GroundingDINO_SwinT_OGC as config

    return {name: value for name, value in vars(config).items() if not name.startswith("__")} | changes


def shrink_swin(monkeypatch: Any) -> None:
    """Have groundingdino build its Swin with the sizes of `SWIN`."""
    import_module("pipelines.detectors.text.official")  # it imports the library quietly
    swin = import_module("groundingdino.models.GroundingDINO.backbone.swin_transformer").SwinTransformer
    backbone = import_module("groundingdino.models.GroundingDINO.backbone.backbone")
    monkeypatch.setattr(backbone, "build_swin_transformer", lambda _, **options: swin(**SWIN, **options))


def fill(model: nn.Module) -> dict[str, Tensor]:
    """Give a model random weights, in every floating-point entry. What it shares stays shared."""
    own = model.state_dict()
    model.load_state_dict({key: x if x.is_floating_point() else own[key] for key, x in weights_for(model).items()})
    return model.state_dict()


def write_official(
    folder: Path, settings: dict[str, Any], bert: BertConfig, name: str, *, refill: bool = True
) -> dict[str, Tensor]:
    """A checkpoint as the authors published theirs: wrapped, prefixed, with entries that only training reads.

    refill: draw every weight, else keep those that the library starts from, many of which are 0. Returns the state.
    """
    from pipelines.detectors.text.captions import Vocabulary
    from pipelines.detectors.text.official import build

    torch.manual_seed(0)
    model = build(settings, bert, Vocabulary(write_vocabulary(folder)))
    state = fill(model) if refill else model.state_dict()
    extra = {"label_enc.weight": torch.zeros(2001, 256), "bert.embeddings.position_ids": torch.arange(512)[None]}
    torch.save({"model": {f"module.{key}": value for key, value in (state | extra).items()}}, folder / name)
    return state


def write_hugging_face(folder: Path, state: dict[str, Tensor], bert: BertConfig, **sizes: Any) -> None:
    """The same model as the hub has it. sizes: of its configuration, where they are not Swin-T's."""
    write_vocabulary(folder)
    save_file(to_hugging_face(state), folder / "model.safetensors", metadata={"format": "pt"})
    config = {"model_type": "grounding-dino", "text_config": {"model_type": "bert", **asdict(bert)}, **sizes}
    config["backbone_config"] = {"model_type": "swin", "out_indices": [2, 3, 4], **sizes.get("backbone_config", {})}
    (folder / "config.json").write_text(json.dumps(config))


TINY_CONFIG: dict[str, Any] = {
    "encoder_layers": SIZES["enc_layers"],
    "decoder_layers": SIZES["dec_layers"],
    "encoder_ffn_dim": SIZES["dim_feedforward"],
    "decoder_ffn_dim": SIZES["dim_feedforward"],
    "num_queries": SIZES["num_queries"],
    "backbone_config": SWIN,
}


def write_mm(folder: Path) -> None:
    """A small MM-Grounding-DINO."""
    from transformers import MMGroundingDinoConfig, MMGroundingDinoForObjectDetection

    write_vocabulary(folder)
    backbone = {"model_type": "swin", "out_indices": [2, 3, 4], **SWIN}
    config = MMGroundingDinoConfig(
        **{**TINY_CONFIG, "backbone_config": backbone, "text_config": {"model_type": "bert", **asdict(BERT)}},
        decoder_bbox_embed_share=False,
        decoder_cls_embed_share=False,
    )
    model = MMGroundingDinoForObjectDetection(config)
    fill(model)
    model.save_pretrained(folder)


def write_owlv2(folder: Path) -> None:
    """A small OWLv2, and a vocabulary of single letters for it."""
    from transformers import Owlv2Config, Owlv2ForObjectDetection

    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(code) for code in range(33, 127)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "ca", "cat</w>", "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: id for id, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\n")
    text = {"vocab_size": len(tokens), "bos_token_id": len(tokens) - 2, "eos_token_id": len(tokens) - 1}
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Owlv2Config(
        text_config={**text, **sizes}, vision_config={**sizes, "image_size": 96, "patch_size": 16}, projection_dim=32
    )
    model = Owlv2ForObjectDetection(config)
    fill(model)
    model.save_pretrained(folder)


def write_cache(home: Path) -> None:
    """Small models where the cache has those of `TEXT_DETECTORS`, one of each back end."""
    folders = {name: home / "weights" / name for name in CACHED}
    settings = official_settings(**SIZES)
    state = write_official(folders["grounding-dino-swint"], settings, BERT, "groundingdino_swint_ogc.pth")
    write_hugging_face(folders["grounding-dino-tiny"], state, BERT, **TINY_CONFIG)
    write_mm(folders["mm-grounding-dino-tiny"])
    write_owlv2(folders["owlv2-base"])


CACHED = ("grounding-dino-swint", "grounding-dino-tiny", "mm-grounding-dino-tiny", "owlv2-base")


def use_cache(monkeypatch: Any, home: Path) -> None:
    """Have evsam take `write_cache`'s models for the real ones: their hashes are not known, their sizes small."""
    from pipelines.detectors.text import TEXT_DETECTORS

    shrink_swin(monkeypatch)
    forget_hashes(monkeypatch)
    for name in CACHED:
        row = TEXT_DETECTORS[name]
        options = {**row.options, **({} if name == "owlv2-base" else SIDES)}
        if name == "grounding-dino-swint":
            options |= {"config": official_settings(**SIZES), "bert": BERT}
        monkeypatch.setitem(TEXT_DETECTORS._rows, name, replace(row, options=options))
    monkeypatch.setenv("EVSAM_HOME", str(home))


def forget_hashes(monkeypatch: Any) -> None:
    """Have evsam take any content for that of the files it knows."""
    from weights import manifest

    rows = tuple(replace(row, sha256=None, bytes=None, about_bytes=None) if row.url else row for row in manifest.rows())
    monkeypatch.setattr(manifest, "rows", lambda: rows)


def refuse_sockets(monkeypatch: Any) -> list[str]:
    """Make every way to the network fail, and return the list in which attempts are noted."""
    import socket

    attempts: list[str] = []

    def refuse(name: str) -> Callable[..., Any]:
        def attempt(*arguments: Any, **_: Any) -> Any:
            attempts.append(f"{name}{arguments[-1:]}")
            raise OSError("the network is cut")

        return attempt

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse(name))
    for name in ("create_connection", "getaddrinfo", "gethostbyname", "gethostbyname_ex"):
        monkeypatch.setattr(socket, name, refuse(name))
    return attempts


def stripes(height: int, width: int) -> np.ndarray:
    """A picture that is not the same anywhere, H x W x 3 uint8."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x * 7 + y * 3) % 256], 2).astype(np.uint8)
