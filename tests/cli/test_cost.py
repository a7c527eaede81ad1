"""What a grid of clicks will cost is said once, by the time that some of it took."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from evsam_cli import progress
from evsam_cli.progress import Bar, Cost, Plain


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock is two seconds after the one before."""

    def seconds() -> Iterator[float]:
        now = 0.0
        while True:
            yield (now := now + 2)

    ticks = seconds()
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(ticks))


def test_the_first_image_tells_what_each_takes_and_no_other_does() -> None:
    cost = Cost("do less")
    lines = [cost.line("a", done, 1024) for done in (0, 64, 128, 192)]
    assert lines == [None, None, "1024 clicks a photo, about 32 s each here: do less", None]
    assert not any(cost.line("b", done, 1024) for done in (0, 64, 128))


def test_what_takes_little_or_has_no_other_way_is_not_said() -> None:
    for cost, total in ((Cost("do less"), 192), (Cost(), 1024)):
        assert not any(cost.line("a", done, total) for done in (0, 64, 128, 192))


@pytest.mark.parametrize("kind", [Plain, Bar])
def test_displays_say_it(kind: type[Plain] | type[Bar], capsys: pytest.CaptureFixture[str]) -> None:
    with kind(Cost("do less")) as watch:
        watch.started(2, 0)
        for done in (0, 64, 128, 192):
            watch.within("a.jpg", done, 1024)
    assert capsys.readouterr().err.count("1024 clicks a photo, about") == 1
