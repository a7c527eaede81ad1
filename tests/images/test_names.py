"""Which image a name in a file means: what is the same name, what is told, and what is nobody's."""

from __future__ import annotations

import random
import unicodedata
from pathlib import Path

import pytest

from pipelines.images.search import find_files
from pipelines.names import match, pair

COMPOSED, DECOMPOSED = "caf\u00e9.jpg", unicodedata.normalize("NFD", "caf\u00e9.jpg")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("x/1.jpg", "x\\1.jpg"),
        ("x/1.jpg", "./x//1.jpg"),
        ("x/1.jpg", "1.jpg"),
        ("1.jpg", "/data/x/1.jpg"),
        ("x/1.jpg", "1"),
        (DECOMPOSED, COMPOSED),
        (COMPOSED, DECOMPOSED),
        (f"été/{DECOMPOSED}", unicodedata.normalize("NFD", "été/") + COMPOSED),
        (f"x/{DECOMPOSED}", COMPOSED),
        (DECOMPOSED, "caf\u00e9"),
        ("a_b.jpg", "a\tb.jpg"),
        ("C_1.jpg", "C:1.jpg"),
        ("caf_.jpg", "caf\udce9.jpg"),
        ("n" * 196 + ".jpg", "n" * 230 + ".jpg"),
    ],
)
def test_names_that_mean_the_same_without_a_word(ours: str, theirs: str) -> None:
    matching = match(["other.jpg", ours], [theirs, "another.jpg"])
    assert matching.found == {ours: theirs} and not matching.notes("boxes.csv")


@pytest.mark.parametrize(
    ("ours", "theirs", "difference"),
    [
        ("IMG_1.JPG", "img_1.jpg", "upper and lower case"),
        ("x/IMG_1.JPG", "img_1.jpg", "upper and lower case"),
        ("IMG_1.JPG", "img_1", "upper and lower case"),
        (DECOMPOSED.upper(), COMPOSED, "upper and lower case"),
        ("my photo.jpg", "my%20photo.jpg", "percent-encoding"),
        ("x/my photo.jpg", "y/my%20photo.jpg", "percent-encoding"),
        (DECOMPOSED, "caf%C3%A9.jpg", "percent-encoding"),
        ("My photo.jpg", "my%20photo.jpg", "upper and lower case"),
        ("x/1.jpg", "y/1.jpg", "their folders"),
    ],
)
def test_names_that_mean_the_same_with_a_word(ours: str, theirs: str, difference: str) -> None:
    matching = match([ours], [theirs])
    assert matching.found == {ours: theirs}
    assert matching.notes("boxes.csv") == [
        f"{ours} was taken for {theirs} of boxes.csv: the names differ in {difference} alone"
    ]


def test_several_differences_of_a_kind_are_one_note() -> None:
    (note,) = match(["A.jpg", "B.jpg", "c.jpg"], ["a.jpg", "b.jpg", "c.jpg"]).notes("boxes.csv")
    assert note.startswith("2 names") and note.endswith("such as A.jpg for a.jpg")


@pytest.mark.parametrize(
    ("ours", "theirs", "found"),
    [
        ([COMPOSED, DECOMPOSED], [DECOMPOSED, COMPOSED], {COMPOSED: COMPOSED, DECOMPOSED: DECOMPOSED}),
        ([COMPOSED, DECOMPOSED], [COMPOSED], {COMPOSED: COMPOSED}),
        (["A.jpg", "a.jpg"], ["a.jpg"], {"a.jpg": "a.jpg"}),
        (["A.jpg", "a.JPG"], ["a.jpg"], {}),
        (["A.jpg"], ["a.jpg", "a.JPG"], {}),
        (["x/1.jpg", "y/1.jpg"], ["1.jpg"], {}),
        (["a.jpg"], ["a.png"], {}),
        (["a\\b.jpg", "a/b.jpg"], ["a/b.jpg", "a\\b.jpg"], {"a/b.jpg": "a/b.jpg", "a\\b.jpg": "a\\b.jpg"}),
        ([], ["a.jpg"], {}),
    ],
)
def test_the_exact_name_wins_and_doubt_is_no_match(ours: list[str], theirs: list[str], found: dict[str, str]) -> None:
    assert match(ours, theirs).found == found


def test_nothing_is_matched_twice_whatever_the_names() -> None:
    rng = random.Random(0)
    parts = ["a", "A", "é", "e\u0301", "%61", "b.jpg", "B.JPG", "1"]
    for _ in range(300):
        ours, theirs = (["/".join(rng.choices(parts, k=rng.randint(1, 2))) for _ in range(6)] for _ in range(2))
        for matching in (match(ours, theirs), pair(ours, theirs)):
            assert len(set(matching.found.values())) == len(matching.found)
            assert set(matching.found) <= set(ours) and set(matching.found.values()) <= set(theirs)
        assert all(match(ours, theirs).found[name] == name for name in set(ours) & set(theirs))


@pytest.mark.parametrize(
    ("ours", "theirs", "told"),
    [
        ("a.jpg", "a.png", False),
        ("a.b.jpg", "a.b.png", False),
        ("a.jpg", "a.jpg.png", False),
        (DECOMPOSED, "caf\u00e9.png", False),
        ("A.jpg", "a.png", True),
        ("my photo.jpg", "my%20photo.png", True),
    ],
)
def test_pairs_of_files(ours: str, theirs: str, told: bool) -> None:
    pairing = pair([ours], [theirs])
    assert pairing.found == {ours: theirs} and bool(pairing.notes("masks")) == told


def test_pairs_keep_to_their_stem() -> None:
    assert pair(["a.1.jpg"], ["a.png"]).found == {}
    assert pair(["a.jpg", "a.1.jpg"], ["a.1.png", "a.jpg.png"]).found == {"a.jpg": "a.jpg.png", "a.1.jpg": "a.1.png"}


def test_files_below_a_folder(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in (f"deep/{DECOMPOSED}", "B.JPG", "c.jpg"):
        (tmp_path / name).write_bytes(b"")
    matching = find_files(tmp_path, [f"deep/{COMPOSED}", "b.jpg", "c.jpg", "gone.jpg"])
    assert matching.found == {f"deep/{COMPOSED}": f"deep/{DECOMPOSED}", "b.jpg": "B.JPG", "c.jpg": "c.jpg"}
    assert len(matching.notes("images")) == 1
