"""`evsam segment`: the main job."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from evsam_cli.options import listed, option, path
from evsam_cli.options.detectors import DetectorOptions, TextOptions, precision_of_reader
from evsam_cli.options.grouping import grouped
from evsam_cli.options.labels import ClassNames, parse_class_names
from evsam_cli.options.models import MaskOptions, ModelOptions, Sam
from evsam_cli.options.runs import Output, RunOptions, Save, Sources
from pipelines.errors import UsageError
from pipelines.labels import LABELS
from pipelines.limits import LOGIT
from pipelines.run import RunConfig
from pipelines.sam import SamConfig

if TYPE_CHECKING:
    from pipelines.prompts import PromptConfig


BOX_FORMATS = ("xyxy", "xywh", "cxcywh", "xyxy-normalised", "xywh-normalised", "cxcywh-normalised")
"""Those of `pipelines.boxes`, whose module needs NumPy."""


@dataclass(frozen=True)
class GivenOptions:
    """Prompts that need no detector."""

    boxes: Annotated[
        Path | None,
        option(
            "Boxes",
            "--boxes",
            metavar="PATH",
            help=f"Boxes from a file, or a folder of files, not a detector: CSV, {', '.join(LABELS)}.",
            parser=path,
        ),
    ] = None
    box_format: Annotated[
        str | None,
        option(
            "Boxes",
            "--box-format",
            metavar="FORMAT",
            help="How --boxes counts, if a COCO or CSV file does not say: xyxy, xywh or cxcywh, in pixels or with "
            "-normalised. Or the format of the files, where a folder holds several.",
            offered=(*BOX_FORMATS, *LABELS),
        ),
    ] = None
    class_names: ClassNames = None
    min_score: Annotated[
        float | None, option("Boxes", "--min-score", help="Lowest score to take from --boxes.", within=LOGIT)
    ] = None
    box: Annotated[
        list[str] | None, option("Boxes", "--box", metavar="X1,Y1,X2,Y2", help="A box in pixels; repeat for more.")
    ] = None
    point: Annotated[
        list[str] | None,
        option(
            "Boxes",
            "--point",
            metavar="X,Y[,0]",
            help="A click on the object, or off it with a third 0; all clicks together name one object.",
        ),
    ] = None

    def config(self) -> PromptConfig | None:
        """What the pipeline is told, None when nothing is given. Raises UsageError."""
        from pipelines.detectors.given import parse_box, parse_point
        from pipelines.prompts import BoxFilePrompts, GivenBoxes, GivenPoints

        if sum(map(bool, (self.boxes, self.box, self.point))) > 1:
            raise UsageError("--boxes, --box and --point are different ways to prompt: choose one")
        if not self.boxes and any(each is not None for each in (self.box_format, self.min_score, self.class_names)):
            raise UsageError("--box-format, --min-score and --class-names are about --boxes, which is missing")
        if self.min_score is not None and not abs(self.min_score) <= LOGIT.most:
            raise UsageError(f"--min-score is no number {LOGIT.words}")
        if self.boxes:
            return BoxFilePrompts(
                path=str(self.boxes),
                box_format=self.box_format,
                min_score=self.min_score,
                class_names=parse_class_names(self.class_names),
            )
        if self.box:
            return GivenBoxes(tuple(map(parse_box, self.box)))
        if self.point:
            return GivenPoints(tuple(map(parse_point, self.point)))
        return None


EXAMPLES = """
# With the bundled models, offline
evsam segment photos/ -o out

# With better ones, which are fetched when first named
evsam segment photos/ -o out --detector yolov8m --sam efficientvit-sam-l2

# People and dogs alone
evsam segment photos/ -o out --detector yolov8m --classes person,dog

# Boxes from a file, results as COCO and as PNGs of ids
evsam segment photos/ -o out --boxes boxes.json --save coco,ids

# One box, or one click, in one picture
evsam segment dog.jpg -o out --box 60,40,420,300
evsam segment dog.jpg -o out --point 250,180
"""


@grouped
def segment(
    sources: Sources,
    output: Output,
    *,
    detector: DetectorOptions,
    words: TextOptions,
    given: GivenOptions,
    sam: Sam = SamConfig.name,
    models: ModelOptions,
    masks: MaskOptions,
    save: Save = listed(RunConfig.save),
    run: RunOptions,
) -> None:
    """Segment the objects in images: a detector finds boxes, a SAM turns each into a mask.

    The bundled starter models work at once and offline; better ones are fetched when first named.
    """
    from pipelines.segment import SegmentConfig, segment

    prompts = given.config()
    own_models = models.own_model(sam) | (detector.own_model() if prompts is None else {})
    if prompts is None:
        prompts = detector.config(words, precision_of_reader(models.precision))
    elif detector != DetectorOptions():
        raise UsageError("--boxes, --box and --point need no detector: drop --detector and its options, such as --conf")
    images = run.config(sources, output, save, offline=models.offline)
    config = SegmentConfig(images, prompts, models.config(sam, masks.rules(sam, clicks=bool(given.point))))
    run.show(output, lambda watch: segment(config, watch), own_models)
