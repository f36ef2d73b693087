"""The commands as they are typed: arguments, options and help."""

from __future__ import annotations

import io
from contextlib import nullcontext, redirect_stdout
from enum import StrEnum
from importlib.metadata import entry_points
from typing import Annotated, Any, TypeVar

import typer

from coordinator import __version__
from coordinator.cli.output import check_text, complain, prepare, say
from coordinator.cli.signals import Signals

OUTPUT = "fanfold-out"
# Commands of other packages, such as infra's deploy, are found under this entry point group.
COMMANDS = "fanfold.commands"
RUN_DIR = "A run's folder: OUTPUT/JOB/runs/RUN_ID, or s3://BUCKET/JOB/runs/RUN_ID."

app = typer.Typer(
    name="fanfold",
    help="Fan out, fold back: batch jobs on one machine or on AWS, from one small Python module.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Value = TypeVar("Value", str, "str | None", list[str])


def carry_out(given: list[str], signals: Signals) -> int:
    """Parse a command line and do what it says; gives the exit code.

    Raises:
        FanfoldError: or whatever else the command broke off with.
    """
    prepare()
    for word in given:
        check_text(word, "The argument")
    for command in entry_points(group=COMMANDS):
        app.command(command.name)(command.load())
    call = typer.main.get_command(app).main
    helping = redirect_stdout(io.StringIO()) if {"-h", "--help"} & {*given} else nullcontext()
    with helping as text:
        code = call(list(given), prog_name="fanfold", standalone_mode=False, obj=signals)
    if text is not None:
        say(text.getvalue().rstrip())
    return code if isinstance(code, int) else 0


def not_empty(value: Value) -> Value:
    """Refuse an option or argument that is given with nothing in it: a variable that is not set,
    most likely."""
    if value == "" or (isinstance(value, (list, tuple)) and "" in value):
        raise typer.BadParameter("it is empty")
    return value


def _argument(**options: Any) -> Any:
    return typer.Argument(callback=not_empty, **options)


def _option(*names: str, **options: Any) -> Any:
    return typer.Option(*names, callback=not_empty, **options)


Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else.")]
Output = Annotated[str, _option("--output", "-o", help="Folder for runs and results.")]
RunDir = Annotated[str, _argument(help=RUN_DIR)]


class Redo(StrEnum):
    """What of a run is done again though it was done."""

    QUARANTINED = "quarantined"


@app.callback(invoke_without_command=True)
def _fanfold(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        say(f"fanfold {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        complain(context.get_help())
        raise typer.Exit(2)


@app.command()
def run(
    context: typer.Context,
    job: Annotated[str, _argument(help="A name in jobs/, or the path of a .py.")],
    inputs: Annotated[
        list[str],
        _argument(metavar="INPUT...", help="Files, folders or globs ('logs/**/*.gz')."),
    ],
    output: Output = OUTPUT,
    workers: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Worker processes; one per core by default.")
    ] = None,
    shard_bytes: Annotated[
        str | None,
        _option(metavar="SIZE", help="Input bytes of a shard: 64MiB, 500k, 1048576."),
    ] = None,
    shard_items: Annotated[
        int | None, typer.Option(min=1, help="Most input objects of a shard.")
    ] = None,
    run_id: Annotated[
        str | None, _option(help="Name of the run; one that exists is taken up again.")
    ] = None,
    redo: Annotated[
        Redo | None, typer.Option(help="Do the shards again that have quarantined records.")
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Run a job over files on this machine.

    The same --run-id again does only what is missing, with the options that the run was begun
    with. Exit codes: 0 published, 1 failed, 2 nothing was begun, 130 interrupted.
    """
    from coordinator.cli import running

    running.run_command(
        running.Asked(
            job=job,
            inputs=tuple(inputs),
            output=output,
            workers=workers,
            shard_bytes=shard_bytes,
            shard_items=shard_items,
            run_id=run_id,
            redo=redo is not None,
        ),
        context.obj,
        as_json=as_json,
    )


@app.command()
def verify(run_dir: RunDir, as_json: AsJson = False, debug: Debug = False) -> None:
    """Prove a published run again, from its files alone.

    Checks that every pinned byte was read once, every part, ledger and result is what was
    recorded, and all totals add up. Says what is wrong where it is, and exits with 1.
    """
    from coordinator.cli import upkeep

    upkeep.verify_command(run_dir, as_json=as_json)


@app.command()
def new(
    name: Annotated[str, _argument(help="The job's name: letters, digits and '-'.")],
    folder: Annotated[str, _option(help="The folder of jobs.")] = "jobs",
    debug: Debug = False,
) -> None:
    """Write a commented job, and its test."""
    from coordinator.cli import scaffold

    scaffold.new_command(name, folder)


@app.command()
def cancel(run_dir: RunDir, debug: Debug = False) -> None:
    """Cancel a run: workers stop, nothing is published, the ledger stays.

    The same run id takes it up again, under a new epoch.
    """
    from coordinator.cli import upkeep

    upkeep.cancel_command(run_dir)


@app.command()
def clean(
    output: Annotated[str, _argument(help="A folder of runs, or s3://BUCKET.")] = OUTPUT,
    job: Annotated[str | None, _option(help="Only this job's runs.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed.")] = False,
    debug: Debug = False,
) -> None:
    """Remove what is no longer needed of runs that ended at least a day ago.

    Results, manifests and ledgers stay; so does all that an unpublished run is taken up from.
    """
    from coordinator.cli import upkeep

    upkeep.clean_command(output, job, dry=dry_run)


@app.command()
def repair(run_dir: RunDir, debug: Debug = False) -> None:
    """Set broken entries of an unpublished run aside, so that their shards are done again."""
    from coordinator.cli import upkeep

    upkeep.repair_command(run_dir)
