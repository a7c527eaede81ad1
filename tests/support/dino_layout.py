"""From the layout of the official Grounding DINO checkpoints to that of the checkpoints on the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_DEFORMABLE = r"(sampling_offsets|attention_weights|value_proj|output_proj)"
_RULES = [
    # text
    (r"^bert\.(embeddings|encoder)", r"model.text_backbone.\1"),
    (r"^feat_map", "model.text_projection"),
    # image
    (r"^backbone\.0\.patch_embed\.proj", "swin.embeddings.patch_embeddings.projection"),
    (r"^backbone\.0\.patch_embed\.norm", "swin.embeddings.norm"),
    (r"^backbone\.0\.norm1\.", "swin.hidden_states_norms.stage2."),
    (r"^backbone\.0\.norm2\.", "swin.hidden_states_norms.stage3."),
    (r"^backbone\.0\.norm3\.", "swin.hidden_states_norms.stage4."),
    (r"^backbone\.0\.layers", "swin.encoder.layers"),
    (r"^(swin.*)\.norm1\.", r"\1.layernorm_before."),
    (r"^(swin.*)\.norm2\.", r"\1.layernorm_after."),
    (
        r"^(swin.*)\.attn\.(query|key|value|relative_position_bias_table|relative_position_index)",
        r"\1.attention.self.\2",
    ),
    (r"^(swin.*)\.attn\.proj", r"\1.attention.output.dense"),
    (r"^(swin.*)\.mlp\.fc1", r"\1.intermediate.dense"),
    (r"^(swin.*)\.mlp\.fc2", r"\1.output.dense"),
    (r"^swin\.", "model.backbone.conv_encoder.model."),
    (r"^input_proj\.", "model.input_proj_vision."),
    # encoder
    (r"^transformer\.encoder\.layers\.(\d+)\.", r"encoder.\1.deformable_layer."),
    (r"^transformer\.encoder\.text_layers\.(\d+)\.", r"encoder.\1.text_enhancer_layer."),
    (r"^transformer\.encoder\.fusion_layers\.(\d+)\.", r"encoder.\1.fusion_layer."),
    (r"^(encoder.*text_enhancer_layer)\.norm1", r"\1.layer_norm_before"),
    (r"^(encoder.*text_enhancer_layer)\.norm2", r"\1.layer_norm_after"),
    (r"^(encoder.*deformable_layer)\.norm1", r"\1.self_attn_layer_norm"),
    (r"^(encoder.*deformable_layer)\.norm2", r"\1.final_layer_norm"),
    (r"^(encoder.*)\.linear([12])", r"\1.fc\2"),
    (r"^(encoder.*)\.gamma_v", r"\1.vision_param"),
    (r"^(encoder.*)\.gamma_l", r"\1.text_param"),
    (r"^(encoder.*)\.layer_norm_v\.", r"\1.layer_norm_vision."),
    (r"^(encoder.*)\.layer_norm_l\.", r"\1.layer_norm_text."),
    (r"^(encoder.*fusion_layer\.attn\.(?:values_|out_)?)v_proj", r"\1vision_proj"),
    (r"^(encoder.*fusion_layer\.attn\.(?:values_|out_)?)l_proj", r"\1text_proj"),
    (r"^encoder\.", "model.encoder.layers."),
    # decoder
    (r"^transformer\.decoder\.layers\.", "decoder."),
    (r"^(decoder\.\d+)\.cross_attn\.", r"\1.encoder_attn."),
    (r"^(decoder\.\d+)\.ca_text\.", r"\1.encoder_attn_text."),
    (r"^(decoder\.\d+)\.catext_norm", r"\1.encoder_attn_text_layer_norm"),
    (r"^(decoder\.\d+)\.norm1", r"\1.encoder_attn_layer_norm"),
    (r"^(decoder\.\d+)\.norm2", r"\1.self_attn_layer_norm"),
    (r"^(decoder\.\d+)\.norm3", r"\1.final_layer_norm"),
    (r"^(decoder\.\d+)\.linear([12])", r"\1.fc\2"),
    (r"^decoder\.", "model.decoder.layers."),
    (r"^transformer\.decoder\.norm\.", "model.decoder.layer_norm."),
    (r"^transformer\.decoder\.ref_point_head", "model.decoder.reference_points_head"),
    (r"^transformer\.decoder\.bbox_embed", "model.decoder.bbox_embed"),
    (r"^transformer\.enc_out_bbox_embed", "model.encoder_output_bbox_embed"),
    (r"^transformer\.tgt_embed", "model.query_position_embeddings"),
    (r"^transformer\.", "model."),
]
_LEFT_OUT = re.compile(r"^bert\.pooler|^label_enc|position_ids$")


def to_hugging_face(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every entry under its other name; the stacked query, key and value apart."""
    converted = {}
    for key, value in official.items():
        if not _LEFT_OUT.search(key):
            for part, tensor in _unstack(key, value).items():
                for pattern, replacement in _RULES:
                    part = re.sub(pattern, replacement, part)
                converted[part] = tensor.clone()
    return converted


def _unstack(key: str, value: Tensor) -> dict[str, Tensor]:
    if not (match := re.search(r"in_proj_(?=weight|bias)|qkv\.", key)):
        return {key: value}
    names = (f"{key[: match.start()]}{name}.{key[match.end() :]}" for name in ("query", "key", "value"))
    return dict(zip(names, value.chunk(3), strict=True))
