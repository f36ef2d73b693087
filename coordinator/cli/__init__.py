"""The `fanfold` command. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer

from coordinator import __version__
from coordinator.errors import FanfoldError

app = typer.Typer(
    name="fanfold",
    help="Fan out, fold back: batch jobs on one machine or on AWS, from one small Python module.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

OUTPUT = "fanfold-out"
# Commands of other packages, such as infra's deploy, are found under this entry point group.
COMMANDS = "fanfold.commands"
RUN_DIR = "A run's folder: OUTPUT/JOB/runs/RUN_ID, or s3://BUCKET/JOB/runs/RUN_ID."

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for runs and results.")]


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"fanfold {__version__}")
        raise typer.Exit


@app.command()
def run(
    job: Annotated[str, typer.Argument(help="A name in jobs/, or the path of a .py.")],
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT...", help="Files, folders or globs ('logs/**/*.gz')."),
    ],
    output: Output = Path(OUTPUT),
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes; one per core by default.")
    ] = None,
    shard_bytes: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Input bytes of a shard: 64MiB, 500k, 1048576."),
    ] = None,
    shard_items: Annotated[
        int | None, typer.Option(min=1, help="Most input objects of a shard.")
    ] = None,
    run_id: Annotated[
        str | None, typer.Option(help="Name of the run; one that exists is taken up again.")
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Run a job over files on this machine.

    The same --run-id again does only what is missing. Exit codes: 0 published, 1 failed,
    2 nothing was begun, 130 interrupted.
    """
    from coordinator.cli import running

    running.run_command(
        job,
        tuple(inputs),
        output=output,
        workers=workers,
        shard_bytes=shard_bytes,
        shard_items=shard_items,
        run_id=run_id,
        as_json=as_json,
    )


@app.command()
def verify(
    run_dir: Annotated[str, typer.Argument(help=RUN_DIR)],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Prove a published run again, from its files alone.

    Checks that every pinned byte was read once, every part, ledger and result is what was
    recorded, and all totals add up. Says what is wrong where it is, and exits with 1.
    """
    from coordinator.cli import verifying

    verifying.verify_command(run_dir, as_json=as_json)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="The job's name: letters, digits and '-'.")],
    folder: Annotated[Path, typer.Option(help="The folder of jobs.")] = Path("jobs"),
    debug: Debug = False,
) -> None:
    """Write a commented job, and its test."""
    from coordinator.cli import scaffold

    scaffold.new_command(name, folder)


@app.command()
def cancel(
    run_dir: Annotated[str, typer.Argument(help=RUN_DIR)],
    debug: Debug = False,
) -> None:
    """Cancel a run: workers stop, nothing is published, the ledger stays.

    The same run id takes it up again, under a new epoch.
    """
    from coordinator.cli import upkeep

    upkeep.cancel_command(run_dir)


@app.command()
def clean(
    output: Annotated[str, typer.Argument(help="A folder of runs, or s3://BUCKET.")] = OUTPUT,
    job: Annotated[str | None, typer.Option(help="Only this job's runs.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed.")] = False,
    debug: Debug = False,
) -> None:
    """Remove what is no longer needed of runs that ended at least a day ago.

    Results, manifests and ledgers stay; so does all that an unpublished run is taken up from.
    """
    from coordinator.cli import upkeep

    upkeep.clean_command(output, job, dry=dry_run)


@app.command()
def repair(
    run_dir: Annotated[str, typer.Argument(help=RUN_DIR)],
    debug: Debug = False,
) -> None:
    """Set broken entries of an unpublished run aside, so that their shards are done again."""
    from coordinator.cli import upkeep

    upkeep.repair_command(run_dir)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; ends the process with its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    for command in entry_points(group=COMMANDS):
        app.command(command.name)(command.load())
    try:
        app(args=given, prog_name="fanfold")
    except FanfoldError as error:
        _show(error, given)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(1)


def _show(error: FanfoldError, arguments: list[str]) -> None:
    """One or two sentences; a traceback for --debug, a JSON object for --json."""
    if "--debug" in arguments:
        import traceback

        traceback.print_exception(error)
    if "--json" in arguments:
        import json

        status = "refused" if error.exit_code == 2 else "failed"
        typer.echo(json.dumps({"status": status, "error": error.name, "message": str(error)}))
    else:
        typer.echo(f"fanfold: {error}", err=True)
