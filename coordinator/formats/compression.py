"""Compressed objects: which can be read, through what, and whether they break off."""

from __future__ import annotations

import bz2
import gzip
import zlib
from contextlib import closing
from typing import Any, cast

from coordinator.errors import InputInvalid
from coordinator.formats.ranges import CHUNK_BYTES, Read
from coordinator.model import Pinned
from coordinator.store.ports import Inputs, Readable
from coordinator.store.streams import FullReads

COMPRESSED = (".gz", ".bz2")
UNREADABLE = (".zst", ".zstd", ".xz", ".lz4", ".zip", ".7z")


def is_compressed(key: str) -> bool:
    """Whether an object is read through a decompressor, and so can't be cut."""
    return key.lower().endswith(COMPRESSED)


def check_readable(key: str, kind: str) -> None:
    """Refuse an object of a compression that can't be read; `kind` is the source's.

    Raises:
        InputInvalid: it is.
    """
    if key.lower().endswith(UNREADABLE):
        raise InputInvalid(
            f"{key} can't be read as {kind}: decompress it, or compress it with gzip or bzip2."
        )


def decompressor(key: str, stream: Readable) -> Read:
    """The read function of a decompressed stream."""
    full = cast("Any", FullReads(stream))
    if key.lower().endswith(".gz"):
        return gzip.GzipFile(fileobj=full, mode="rb").read
    return bz2.BZ2File(full, mode="rb").read


def decompresses(inputs: Inputs, pinned: Pinned) -> bool:
    """Whether a compressed object can be read to its last byte. Known before its first record is
    mapped, because a record once mapped can't be taken back."""
    with closing(inputs.open(pinned, 0, pinned.size)) as stream:
        read = decompressor(pinned.key, stream)
        try:
            while read(CHUNK_BYTES):
                pass
        except (EOFError, OSError, ValueError, zlib.error):
            return False
    return True
