"""What a run says beside its results: what spoils no image, and yet should be known. One sentence each.

An image's own notes travel in `Image.notes` and `Record.notes`; a job's in its report, under "notes". `run` puts them
all into run.json and into the summary, whose notes the command line prints at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipelines.records import Record

_NAMED = 2
"""Images that a note names."""


def notes_of_images(records: Iterable[Record]) -> list[str]:
    """Each note of the images once, with how many have it and the names of the first."""
    return counted_notes((note, record.name) for record in records for note in record.notes)


def counted_notes(told: Iterable[tuple[str, str]]) -> list[str]:
    """As `notes_of_images`, of notes that each come with the image's name."""
    names: dict[str, dict[str, None]] = {}
    for note, name in told:
        names.setdefault(note, {})[name] = None
    return [f"{note} ({counted_images(list(having))})" for note, having in names.items()]


def counted_images(names: Sequence[str]) -> str:
    """`3 images, such as a.jpg, b.jpg`, or the one image's name."""
    if len(names) == 1:
        return names[0]
    return f"{len(names)} images, such as {', '.join(names[:_NAMED])}"
