"""The job thumbnails, run in memory on small pictures."""

import io
from pathlib import Path

import pytest

from coordinator.errors import ToleranceExceeded
from coordinator.testing import run_job

Image = pytest.importorskip("PIL.Image")

JOB = Path(__file__).parents[2] / "jobs" / "thumbnails.py"


def picture(width: int, height: int, *, kind: str = "PNG", mode: str = "RGB") -> bytes:
    """A picture of one colour."""
    body = io.BytesIO()
    Image.new(mode, (width, height), "teal").save(body, kind)
    return body.getvalue()


def sizes(results: dict[str, bytes]) -> list[tuple[int, int]]:
    return [Image.open(io.BytesIO(body)).size for body in results.values()]


def test_the_longest_side_becomes_256_pixels() -> None:
    outcome = run_job(JOB, {"wide.png": picture(512, 128), "tall.jpg": picture(100, 1000)})

    assert sorted(sizes(outcome.results)) == [(26, 256), (256, 64)]


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "I;16"])
def test_every_kind_of_pixel_becomes_rgb(mode: str) -> None:
    body = io.BytesIO()
    Image.new(mode, (30, 20)).save(body, "PNG")

    (result,) = run_job(JOB, {"picture.png": body.getvalue()}).results.values()

    assert Image.open(io.BytesIO(result)).mode == "RGB"


def test_pictures_of_equal_names_have_thumbnails_of_their_own() -> None:
    outcome = run_job(JOB, {"a/cat.png": picture(9, 9), "b/cat.png": picture(8, 8)})

    assert len(outcome.results) == 2
    assert all(name.startswith("cat-") for name in outcome.results)


def test_a_name_that_no_file_can_have_is_no_obstacle() -> None:
    outcome = run_job(JOB, {"a\\b\n..png": picture(9, 9), "-.png": picture(9, 9)})

    assert len(outcome.results) == 2


def test_the_same_picture_gives_the_same_bytes() -> None:
    inputs = {"cat.png": picture(600, 400)}

    assert run_job(JOB, inputs).results == run_job(JOB, inputs).results


def test_what_is_no_picture_is_quarantined() -> None:
    inputs = {f"{n}.png": picture(n + 1, 8) for n in range(30)}
    outcome = run_job(JOB, {**inputs, "notes.txt": b"no picture"})

    (refused,) = outcome.quarantine
    assert len(outcome.results) == 30
    assert refused["key"].endswith("notes.txt")
    assert refused["reason"].startswith("UnidentifiedImageError")


def test_mostly_no_pictures_fail_the_run() -> None:
    with pytest.raises(ToleranceExceeded):
        run_job(JOB, {"a.png": picture(9, 9), "b.png": b"no picture"})
