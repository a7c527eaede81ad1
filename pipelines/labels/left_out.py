"""What a file of labels holds and evsam has no place for: counted, and told at the end."""

from __future__ import annotations

from dataclasses import dataclass, field

_NAMED = 2
"""Images that a note names."""


@dataclass
class _Count:
    times: int = 0
    images: int = 0
    last: str = ""
    first: list[str] = field(default_factory=list)


class LeftOut:
    """Counts by kind, in memory that does not grow with the number of images. told: what else is to be known."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], _Count] = {}
        self.total = 0

    def add(self, what: str, image: str, times: int = 1, *, read: str = "") -> None:
        """what: in the singular, its noun first: "point", "box that is rotated". read: what was made of it instead."""
        count = self._counts.setdefault((what, read), _Count())
        count.times += times
        if not read:
            self.total += times
        if count.last != image or not count.images:
            count.images += 1
            count.last = image
            if len(count.first) < _NAMED:
                count.first.append(image)

    def notes(self, file: str) -> list[str]:
        """A sentence a kind. file: what was read, for its name."""
        return [_note(what, read, count, file) for (what, read), count in self._counts.items()]


def _note(what: str, read: str, count: _Count, file: str) -> str:
    noun, space, rest = what.partition(" ")
    plural = f"{noun}es" if noun.endswith("x") else f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    told = f"1 {what}" if count.times == 1 else f"{count.times} {plural}{space}{rest}"
    images = count.first[0] if count.images == 1 else f"{count.images} images, such as {', '.join(count.first)}"
    return f"{file}: {told} {read} ({images})" if read else f"left out of {file}: {told} ({images})"
