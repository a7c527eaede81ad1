"""XML of strangers, an element at a time, by the parser of the standard library (expat).

No entity is expanded: a file that declares any is refused, and with it every "billion laughs"; nothing outside of the
file is ever read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from pipelines import coco
from pipelines.errors import DataError
from pipelines.files import reading

_CHUNK = 2**16
_DEEPEST = 50
"""Elements inside each other; annotations have five."""


def elements(path: Path, what: str) -> Iterator[Element]:
    """The root, still empty, then each of its children, whole. what: see `reading`. Raises DataError."""
    with reading(path, what), path.open("rb") as file:
        try:
            yield from _elements(file)
        except expat.ExpatError as error:
            raise DataError(f"{path} is not {what}: {error}") from error
        except DataError as error:
            raise DataError(f"{path}: {error}") from error


_BEFORE_ROOT = re.compile(r"<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^\[>]*(\[.*?\]\s*)?>", re.DOTALL)


def root_of(start: bytes) -> str | None:
    """The name of the root of an XML file of which this is the start; None of what is none."""
    text = start.decode("utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin-1", "replace")
    found = re.search(r"<([A-Za-z_][\w.:-]*)", _BEFORE_ROOT.sub("", text))
    return found[1] if found else None


class _Children:
    """Builds what is inside of the root, and keeps what is whole until it is fetched."""

    def __init__(self) -> None:
        self.whole: list[Element] = []
        self._depth = 0
        self._builder = TreeBuilder()

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise DataError(f"its elements are nested more than {_DEEPEST} deep")
        if self._depth == 1:
            self.whole.append(Element(name, dict(attributes)))
        else:
            self._builder.start(name, dict(attributes))

    def end(self, name: str) -> None:
        self._depth -= 1
        if self._depth:
            self._builder.end(name)
        if self._depth == 1:
            self.whole.append(self._builder.close())
            self._builder = TreeBuilder()

    def text(self, text: str) -> None:
        if self._depth > 1:
            self._builder.data(text)


def _parser() -> expat.XMLParserType:
    parser = expat.ParserCreate()
    parser.EntityDeclHandler = _refuse
    parser.buffer_text = True
    return parser


def _refuse(name: str, *_: object) -> None:
    raise DataError(f"it declares an entity, {coco.told(name)}, and evsam expands none")


def _elements(file: BinaryIO) -> Iterator[Element]:
    parser, children = _parser(), _Children()
    parser.StartElementHandler, parser.EndElementHandler = children.start, children.end
    parser.CharacterDataHandler = children.text
    more = True
    while more:
        chunk = file.read(_CHUNK)
        more = bool(chunk)
        parser.Parse(chunk, not more)
        yield from children.whole
        children.whole.clear()


# What elements hold


def text_of(element: Element, child: str) -> str:
    """The text of a child that must be there."""
    text = (element.findtext(child) or "").strip()
    if not text:
        raise DataError(f"<{element.tag}> has no <{child}>")
    return text


def attribute(element: Element, name: str) -> str:
    """An attribute that must be there."""
    if name not in element.attrib:
        raise DataError(f"<{element.tag}> has no attribute '{name}'")
    return element.attrib[name]
