"""The `fanfold` command. Signals are heeded before anything else is imported, and nothing heavy is
before a command needs it."""

from __future__ import annotations

import sys

from coordinator.cli.signals import Signals


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; ends the process with its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    with Signals() as signals:
        try:
            from coordinator.cli.commands import carry_out

            code = carry_out(given, signals)
        except SystemExit:
            raise
        except BaseException as error:  # noqa: BLE001  however it ended, it is said
            signals.disregard()
            from coordinator.cli.endings import conclude

            code = conclude(error, given, signals)
    sys.exit(code)
