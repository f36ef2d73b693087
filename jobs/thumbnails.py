"""A small JPEG of every picture. What is no picture goes to quarantine."""

import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from coordinator import Blob, Job, Limits, Object, Objects

try:
    from PIL import Image, ImageOps
except ModuleNotFoundError as error:
    raise ImportError("it needs Pillow: pip install 'fanfold[images]'") from error

LONGEST_SIDE = 256  # pixels

job = Job(
    name="thumbnails",
    source=Objects(),
    sink=Objects(),
    limits=Limits(shard_items=20, tolerated=0.05),
    requirements=["pillow"],
    owner="media",
    cost_centre="website",
)


@job.map
def thumbnail(picture: Object) -> Iterator[Blob]:
    with Image.open(io.BytesIO(picture.read())) as found:
        found.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))
        upright = ImageOps.exif_transpose(found)
        small = ImageOps.contain(_on_white(upright), (LONGEST_SIDE, LONGEST_SIDE))
    body = io.BytesIO()
    small.save(body, "JPEG", quality=85)
    yield Blob(_name(picture.key), body.getvalue())


def _on_white(picture: Image.Image) -> Image.Image:
    """JPEG knows no transparency."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    opaque = Image.new("RGBA", picture.size, "white")
    opaque.alpha_composite(picture.convert("RGBA"))
    return opaque.convert("RGB")


def _name(key: str) -> str:
    """A name of its own for every picture: folders may hold pictures of equal names, and a key
    may hold what no file name can."""
    stem = re.sub(r"[^\w-]+", "_", PurePosixPath(key).stem)[:50]
    return f"{stem}-{hashlib.sha256(key.encode()).hexdigest()[:8]}.jpg"
