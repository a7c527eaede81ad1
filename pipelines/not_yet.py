"""Names that people type and evsam does not have: what to do instead. A row goes when its name is supported.

A row is a pattern of the whole name, in lower case with - for _, and words; {name} in them is the name, {size} the size
of a YOLO that the pattern has found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

Rows = tuple[tuple[str, str], ...]

_FILE = "its weights are not fetched by name, but evsam runs the file of any ultralytics detection model"

OUTPUTS: Rows = (
    (r"yolo.+|ultralytics|darknet", "say --save yolo, a data set for `yolo segment train`"),
    (r"pascal(-?voc.*)?|voc.+", "say --save voc"),
    (r"label-me|labelme.+|x-?any-?labeling.*", "say --save labelme"),
    (r"cvat.+", "say --save cvat"),
    (r"labelstudio|label-studio.+", "say --save label-studio"),
    (
        r"(via|vgg|supervisely|datumaro|roboflow|darwin|labelbox|fiftyone)(-.*)?",
        "say --save dataset, a COCO file with all masks, which many tools read or convert",
    ),
    (
        r"masks?|pngs?|instances?|segmentation|labels?",
        "say --save ids, a PNG of numbered objects, or objects, one PNG each",
    ),
    (r"semantic.*", "say --save voc, whose SegmentationClass holds a PNG of the class of each pixel"),
    (r"polygons?|geo-json|shapefile|svg", "say --save geojson, or dataset with --coco-polygons"),
    (r"json|coco-?json|results?", "say --save coco for a list of results, dataset for a COCO data set, or jsonl"),
    (r"tsv|table|excel|xlsx|pandas", "say --save csv or parquet, a row per object"),
    (r"arrow|feather|duckdb|datasets|hugging-?face|hf", "say --save parquet, a row per object"),
    (r"xml", "say --save voc, or cvat"),
    (r"(mp4|video|gif|avi)s?", "it writes pictures: --save overlay, and ffmpeg makes a video of them"),
    (r"crops?|cutout|rgba|transparent", "say --save cutouts, an RGBA picture of each object"),
    (r"overlays|(picture|image|plot|visuali[sz]ation|vis|jpe?g)s?", "say --save overlay, the picture with its masks"),
)

DETECTORS: Rows = (
    (
        r"yolo.*[0-9](?P<size>[nsmlx])?-(seg|pose|obb|cls)",
        "boxes come from a detection model, and a SAM makes the masks: say --detector yolov8{size}",
    ),
    (
        r"yolov5(?P<size>[nsmlx])6?u?",
        f"{_FILE}: bring yolov5{{size}}u.pt and say --detector yolov5{{size}}u.pt, or say --detector yolov8{{size}}",
    ),
    (
        r"yolo-?(v3|v6|v?9|v?10|v?11|v?12|v?13|v?26)-?(?P<size>[nsmlxtceb])?u?",
        f"{_FILE}: bring {{name}}.pt and say --detector {{name}}.pt, or say --detector yolov8{{size}}",
    ),
    (r"yolo.*world.*|yoloe.*|.*dino.*|owl.*|florence.*|glip.*", "for words, say grounding-dino-swint and --text"),
    (
        r"(.*-)?detr.*|rt-?detr.*|d-?fine.*|((faster|mask|cascade)-?)?r-?cnn.*|yolo(?!v8).*|vitdet.*|retinanet.*|ssd.*"
        r"|efficientdet.*|fcos.*",
        "say --detector yolov8x, or bring its boxes in a file: --boxes boxes.json",
    ),
)

SAMS: Rows = (
    (r"sam-?[23].*", "say --sam efficientvit-sam-xl1 for the best masks, or sam-vit-h for the original SAM"),
    (r"sam(-[blh])?", "the original SAM is sam-vit-b, sam-vit-l or sam-vit-h; efficientvit-sam-l2 is faster"),
    (
        r"(fast|lite|squeeze)-?sam.*|q-tiny-?sam|efficient-?sam-?[23].*",
        "for a small and fast one, say --sam efficientvit-sam-l0 or --sam mobile-sam",
    ),
    (
        r"e-?sam|rwkv-?sam|sam-?lightening|fast-?sam-?3d|rap-?sam|efficient-?tam.*|edge-?tam.*|ptq4-?sam.*|sam-?fast",
        "docs/models.md says why; for a small and fast one, say --sam efficientvit-sam-l0 or --sam mobile-sam",
    ),
    (
        r"hq-?sam|sam-?hq|hq",
        "HQ-SAM is --sam sam-hq-vit-b, sam-hq-vit-l or sam-hq-vit-h; light-hq-sam is the small one",
    ),
    (r"med-?sam.*|semantic-sam.*", "say --sam efficientvit-sam-xl1 for the best masks"),
    (r".*\.(pt|pth|safetensors|onnx)", "a file goes to --weights, beside the name of its model"),
)

TEXT_DETECTORS: Rows = (
    (
        r"yolo.*world.*|yoloe.*|owl-?vit.*|florence.*|glip.*|detic.*|clipseg.*|sam-?3.*|t-?rex.*|.*dino-?1\.[56].*",
        "say --detector grounding-dino-swint, or owlv2-large",
    ),
)

_BY_KIND: Mapping[str, Rows] = {
    "output": OUTPUTS,
    "detector": DETECTORS,
    "SAM": SAMS,
    "text detector": TEXT_DETECTORS,
    "model": (*SAMS, *DETECTORS, *TEXT_DETECTORS),
    "weights": (
        (r"(yolo(?!v8)|.*detr|.*rcnn).*", "there are those of yolov8n to yolov8x"),
        (r"(.*dino|owl|florence).*", "there are those of Grounding DINO and OWLv2"),
        (
            r"(?!mobile|tiny|slim|edge|rep-?vit|nano|efficient|light-hq|sam-hq).*sam.*|.*vit-?[bl].*",
            "there are those of EfficientViT-SAM, of the original SAM, MobileSAM, MobileSAMv2, TinySAM, RepViT-SAM, "
            "EdgeSAM, EfficientSAM, NanoSAM, SlimSAM and HQ-SAM",
        ),
    ),
}

_FRAMES = "evsam reads photographs. Save frames first: mkdir frames; ffmpeg -i {} frames/%06d.jpg, then name frames/"
_VIDEO = f"is a video; {_FRAMES}"
_STREAM = f"is a stream; {_FRAMES.replace('{}', '{} -r 1')}"
_CAMERA = f"is a camera; {_FRAMES.replace('{}', '/dev/video{} -r 1')}"
_ARCHIVE = "is an archive; evsam reads photographs. Unpack it first, then name the folder"
_RAW = "is a raw file of a camera; evsam reads photographs. Develop it to JPEG or TIFF first"
_SCANS = "is a scan in a medical format; evsam reads photographs. Export its slices as PNG first"
_STORE = "is in a store that evsam cannot read. Copy it first: "

FILES: Mapping[str, str] = {
    **dict.fromkeys(("mp4", "mov", "avi", "mkv", "webm", "m4v", "mpg", "mpeg", "wmv", "flv", "3gp", "mts"), _VIDEO),
    **dict.fromkeys(("zip", "tar", "tgz", "gz", "bz2", "xz", "7z", "rar"), _ARCHIVE),
    **dict.fromkeys(("cr2", "cr3", "nef", "arw", "dng", "orf", "raf", "rw2"), _RAW),
    **dict.fromkeys(("dcm", "nii", "mha", "nrrd"), _SCANS),
    "pdf": "is a document; evsam reads photographs. Make pictures of its pages first: pdftoppm -png {} page",
    "svg": "is a drawing of lines; evsam reads photographs. Convert it to PNG first",
}
"""By a file's ending; {} is its name."""
SCHEMES: Mapping[str, str] = {
    **dict.fromkeys(("rtsp", "rtsps", "rtmp", "srt", "udp", "rtp"), _STREAM),
    "s3": _STORE + "aws s3 cp --recursive {} photos",
    "gs": _STORE + "gcloud storage cp --recursive {} photos",
    "hf": _STORE + "hf download",
    **dict.fromkeys(("az", "abfs", "abfss", "wasb", "hdfs", "gdrive"), _STORE + "then name the folder"),
    **dict.fromkeys(("ftp", "ftps", "sftp", "scp"), "is on a server that evsam cannot ask. Fetch it first: curl -O {}"),
    "file": "is a file: name its path, without file://",
}
"""By the scheme of a URL other than http and https."""


def instead(kind: str, name: str) -> str | None:
    """What to do instead of a name that `kind` does not have, None where nothing is known of it."""
    key = _key(name)
    for pattern, words in _BY_KIND.get(kind, ()):
        if match := re.fullmatch(pattern, key):
            size = match.groupdict().get("size") or "m"
            return words.format(name=key, size=size if size in "nsmlx" else "m")
    return None


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like it, None when none is."""
    key, names = _key(name), {_key(each): each for each in known}
    close = [each for each in names if key and (each.endswith(f"-{key}") or each.startswith(key))] or get_close_matches(
        key, names, n=1, cutoff=0.6
    )
    return names[close[0]] if close else None


def no_photograph(location: str) -> str | None:
    """What a source is, and what to do first; None where nothing is known of it. location: as it may be shown."""
    scheme, mark, _ = location.partition("://")
    if mark and scheme.lower() in SCHEMES:
        return f"{location!r} {SCHEMES[scheme.lower()].format(location)}"
    if location.isdecimal():
        return f"{location!r} {_CAMERA.format(location)}"
    ending = location.rpartition(".")[2].lower()
    return f"{location!r} {FILES[ending].format(location)}" if ending in FILES and "." in location else None


def _key(name: str) -> str:
    return re.sub(r"[_\s]+", "-", name.strip().lower())
