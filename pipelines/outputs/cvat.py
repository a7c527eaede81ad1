"""CVAT for images 1.1 (cvat-ai/cvat, docs/manual/advanced/xml_format), to be uploaded as annotations of a task."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pipelines import rle
from pipelines.outputs import Output
from pipelines.outputs.objects import covers_nothing, left_out
from pipelines.outputs.xml import element, quoted
from pipelines.records import InstanceRecord, Record

_SCORES = ("score", "predicted_iou", "stability_score")


@dataclass(frozen=True)
class Cvat(Output):
    """`cvat.xml`: of each object its mask, as run lengths along the rows of its box, or its box where there is no mask.
    Scores are attributes, which the labels in the file declare.
    """

    def finish(self, records: Callable[[], Iterable[Record]]) -> None:
        size = sum(record.status != "failed" for record in records())
        with self.destination.opened("cvat.xml") as file:
            file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
            file.write(f"<meta><task><name>evsam</name><size>{size}</size><mode>annotation</mode><labels>\n")
            attributes = "".join(map(_declared, _SCORES))
            for category in self.destination.categories.values():
                name = element("name", category.name)
                file.write(f"<label>{name}<type>any</type><attributes>{attributes}</attributes></label>\n")
            file.write("</labels></task></meta>\n")
            read = (record for record in records() if record.status != "failed")
            for number, record in enumerate(read):
                name, measures = quoted(record.name), f'width="{record.width}" height="{record.height}"'
                file.write(f'<image id="{number}" name="{name}" {measures}>\n')
                for instance in record.instances:
                    if not covers_nothing(instance):
                        file.write(self._shape(instance) + "\n")
                file.write("</image>\n")
            file.write("</annotations>\n")

    def _shape(self, instance: InstanceRecord) -> str:
        label = quoted(self.destination.categories[instance["category_id"]].name)
        if "segmentation" in instance:
            region, left, top = rle.decode_region(instance["segmentation"])
            runs = ", ".join(map(str, rle.along_rows(region).tolist()))
            box = f'left="{left}" top="{top}" width="{region.shape[1]}" height="{region.shape[0]}"'
            tag, where = "mask", f'rle="{runs}" {box}'
        else:
            x, y, w, h = instance["bbox"]
            tag, where = "box", f'xtl="{x:.10g}" ytl="{y:.10g}" xbr="{x + w:.10g}" ybr="{y + h:.10g}"'
        scores = (element("attribute", instance[key], name=key) for key in _SCORES if key in instance)  # type: ignore[literal-required]
        return f'<{tag} label="{label}" source="auto" occluded="0" {where} z_order="0">{"".join(scores)}</{tag}>'

    def notes(self, records: Callable[[], Iterable[Record]]) -> Iterable[str]:
        return left_out("cvat", records)


def _declared(attribute: str) -> str:
    kind = "<mutable>False</mutable><input_type>text</input_type><default_value></default_value><values></values>"
    return f"<attribute><name>{attribute}</name>{kind}</attribute>"
