"""The arithmetic of slices: how much one stands for, and how it is cut in two."""

from __future__ import annotations

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


def slice_weight(piece: Slice) -> int:
    """The bytes that a slice stands for; an empty one weighs something too."""
    return max(slice_bytes(piece), 1)
