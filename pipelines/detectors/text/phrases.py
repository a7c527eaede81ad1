"""What to look for, as people write it: phrases, and the table that says what each is called."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.categories import COCO
from pipelines.errors import UsageError
from pipelines.files import read_toml
from pipelines.printable import brief
from pipelines.types import Category

_FIELDS: dict[str, tuple[type, ...]] = {"category": (str,), "id": (int,), "threshold": (int, float)}


@dataclass(frozen=True)
class Phrase:
    """Words to look for. category: what files call what they find; several phrases may share one.

    threshold: the score that a box must exceed to be given this phrase; None for the one of the run.
    """

    text: str
    category: Category
    threshold: float | None = None


@dataclass(frozen=True)
class _Wish:
    """A phrase as it was written, before categories have ids."""

    text: str
    category: str
    id: int | None = None
    threshold: float | None = None


def parse_phrases(texts: Sequence[str] = (), ontology: str | None = None) -> tuple[Phrase, ...]:
    """Phrases from the user's words.

    texts: phrases separated by full stops, commas or line ends, or the name of a .txt file of them. ontology: pairs
    `phrase=category`, each with `@threshold` if wanted, separated by commas, or the name of a .toml file, which holds
    `"phrase" = "category"` or a table `["phrase"]` with category, id and threshold. Its phrases come first; those of
    `texts` that it does not know are their own categories. Case does not count, and what comes twice is taken once.

    Categories that the table gives no id have COCO's if all are COCO's, else the least ids that are free.
    Raises UsageError for text that cannot be read so, DataError for a .toml that is none.
    """
    wishes = [] if ontology is None else _read_ontology(ontology)
    wishes += [_Wish(phrase, phrase) for text in texts for phrase in _split(_read_text(text))]
    found: dict[str, _Wish] = {}
    for wish in wishes:
        if not wish.text or not wish.category:
            raise UsageError(f"the phrase {wish.text!r} with the category {wish.category!r} lacks one of the two")
        if any("\ud800" <= sign <= "\udfff" for sign in wish.text + wish.category):
            raise UsageError(f"the phrase {wish.text!r} with the category {wish.category!r} is not text in UTF-8")
        if wish.threshold is not None and not 0 <= wish.threshold <= 1:
            raise UsageError(f"the threshold of {wish.text!r} is {brief(wish.threshold)}, but must be from 0 to 1")
        found.setdefault(wish.text.casefold(), wish)
    if not found:
        raise UsageError('nothing to look for: give phrases, such as "cat . red car"')
    categories = _number(found.values())
    return tuple(Phrase(wish.text, categories[wish.category], wish.threshold) for wish in found.values())


def _split(text: str) -> list[str]:
    parts = (" ".join(part.split()) for part in re.split(r"[.,\r\n]", text))
    return [part for part in parts if part]


def _read_text(text: str) -> str:
    return _read_file(text) if text.lower().endswith(".txt") else text


def _read_file(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"{name} cannot be read: {reason}") from error


def _read_ontology(text: str) -> list[_Wish]:
    if not text.lower().endswith(".toml"):
        return [_pair(part) for part in text.split(",") if part.strip()]
    table = read_toml(Path(text), "an ontology in TOML")
    return [_entry(text, phrase, value) for phrase, value in table.items()]


def _pair(text: str) -> _Wish:
    phrase, equals, category = text.partition("=")
    category, at, threshold = category.partition("@")
    try:
        if equals:
            return _Wish(" ".join(phrase.split()), category.strip(), None, float(threshold) if at else None)
    except ValueError:
        pass
    raise UsageError(
        f"{text.strip()!r} is no phrase=category or phrase=category@threshold, such as hard hat=helmet@0.4"
    )


def _entry(file: str, phrase: str, value: Any) -> _Wish:
    fields: Mapping[str, Any] = {"category": value} if isinstance(value, str) else value
    text = " ".join(phrase.split())
    if not isinstance(fields, dict) or not fields.keys() <= _FIELDS.keys():
        raise UsageError(f"{file}: {phrase!r} must be a category, or a table of {', '.join(_FIELDS)}")
    for name, kind in _FIELDS.items():
        if name in fields and (not isinstance(fields[name], kind) or isinstance(fields[name], bool)):
            raise UsageError(f"{file}: the {name} of {phrase!r} is {brief(fields[name])}, which it cannot be")
    if not 0 <= fields.get("id", 0) < 2**63:
        raise UsageError(f"{file}: the id of {phrase!r} is {brief(fields['id'])}, not from 0 to 2^63 - 1")
    return _Wish(text, **{"category": text, **fields})


def _number(wishes: Iterable[_Wish]) -> dict[str, Category]:
    """The categories by name. Raises UsageError when one has two ids, or two have one."""
    ids: dict[str, int | None] = {}
    for wish in wishes:
        known = ids.setdefault(wish.category, wish.id)
        if known is None:
            ids[wish.category] = wish.id
        elif wish.id not in (None, known):
            raise UsageError(f"the category {wish.category!r} has two ids, {known} and {wish.id}")
    given = [id for id in ids.values() if id is not None]
    if len(set(given)) != len(given):
        raise UsageError("two categories of the ontology have the same id")
    coco = {category.name: category.id for category in COCO}
    if not given and ids.keys() <= coco.keys():
        return {name: Category(coco[name], name) for name in ids}
    free = (id for id in range(1, len(ids) + len(given) + 1) if id not in given)
    return {name: Category(next(free) if id is None else id, name) for name, id in ids.items()}
