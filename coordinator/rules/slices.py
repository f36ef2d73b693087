"""The arithmetic of slices: how much one stands for, and how it is cut in two."""

from __future__ import annotations

from collections.abc import Iterable

from coordinator.model import Slice

Slices = tuple[Slice, ...]


def slice_bytes(piece: Slice) -> int:
    """The bytes that a slice stands for; an object cut by records counts with its first slice."""
    if piece.unit == "bytes":
        return piece.stop - piece.start
    return piece.size if piece.start == 0 else 0


def cut_slice(
    piece: Slice, offset: int, ordinal: int, *, bytewise: bool
) -> tuple[tuple[Slice, ...], tuple[Slice, ...]]:
    """A slice, cut before the record at this offset (or with this number): head and tail."""
    if bytewise:
        if offset <= piece.start:
            return (), (piece,)
        if offset >= piece.stop:
            return (piece,), ()
        return (
            (piece.model_copy(update={"stop": offset}),),
            (piece.model_copy(update={"start": offset}),),
        )
    low, high = (piece.start, piece.stop) if piece.unit == "records" else (0, -1)
    if ordinal <= low:
        return (), (piece,)
    numbered = {"unit": "records"}
    return (
        (piece.model_copy(update={**numbered, "start": low, "stop": ordinal}),),
        (piece.model_copy(update={**numbered, "start": ordinal, "stop": high}),),
    )


def cut_bytes(piece: Slice, room: int, *, cuttable: bool) -> tuple[Slice, Slice | None]:
    """The first `room` bytes of a slice, and the rest of it, if it can be cut there."""
    if not cuttable or piece.unit != "bytes" or piece.stop - piece.start <= room:
        return piece, None
    place = piece.start + max(room, 1)
    return piece.model_copy(update={"stop": place}), piece.model_copy(update={"start": place})


def joined(pieces: Iterable[Slice]) -> list[Slice]:
    """Slices in order, those that follow each other without a gap made one. An empty slice of an
    object that has bytes stands for nothing."""
    found: list[Slice] = []
    for piece in pieces:
        last = found[-1] if found else None
        if last is not None and last.pinned == piece.pinned and _follows(last, piece):
            found[-1] = last.model_copy(update={"stop": piece.stop, "unit": piece.unit})
        else:
            found.append(piece)
    return [_in_bytes(piece) for piece in found]


def _follows(last: Slice, piece: Slice) -> bool:
    return piece.start == last.stop and (piece.unit == last.unit)


def _in_bytes(piece: Slice) -> Slice:
    """An object as a whole is the same slice by records as by bytes."""
    if piece.unit == "records" and (piece.start, piece.stop) == (0, -1):
        return Slice.whole(piece.pinned)
    return piece


def slice_weight(piece: Slice) -> int:
    """The bytes that a slice stands for; an empty one weighs something too."""
    return max(slice_bytes(piece), 1)
