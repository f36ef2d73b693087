"""What the jobs of this suite do to the worker that maps them, and to the world outside."""

from __future__ import annotations

from tests.chaos.simulator.world import World

_worlds: list[World] = []


def enter(world: World) -> None:
    """The jobs' worker lives in this world."""
    _worlds.append(world)


def leave(world: World) -> None:
    """It does no more."""
    _worlds.remove(world)


def die() -> None:
    """End the process, as running out of memory does."""
    _worlds[-1].die()


def pass_time(seconds: float) -> None:
    """Take so long; past the function's limit, the process is ended."""
    _worlds[-1].sleep(seconds)


def tell(what: str) -> None:
    """Tell someone outside: an effect that nothing takes back."""
    _worlds[-1].told.append(what)
