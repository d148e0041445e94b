"""The entry point: runs a command and turns every expected failure into one line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from deqops._errors import DeqopsError, MissingDataError
from deqops._solution import ConvergenceError

from ._certify import certify_command
from ._check import check_command
from ._demo import demo_command
from ._exit import (
    BAD_DATA,
    CANNOT_WRITE,
    DONE,
    FAILED,
    INTERRUPTED,
    MISSING_FILE,
    MISSING_TOOL,
    USAGE,
    CommandError,
)
from ._info import info_command
from ._prove import prove_command
from ._report import report_command
from ._solve import solve_command
from ._train import train_command

EXIT_CODES = """\b
Exit codes: 0 certified, verified or done; 1 refuted, rejected or not converged;
2 unknown; 64 usage; 65 bad data; 66 missing file; 69 missing tool;
73, 74 cannot write; 130 interrupted."""


@click.group(no_args_is_help=False, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="deqops", message="deqops %(version)s")
def commands() -> None:
    """Equilibrium models that can be proven to converge."""


_COMMANDS = (
    demo_command,
    train_command,
    solve_command,
    certify_command,
    check_command,
    prove_command,
    report_command,
    info_command,
)
for _command in _COMMANDS:
    commands.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: None for the process's own.

    Returns:
        The exit code; every expected failure has printed one line to stderr.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = commands.main(given, prog_name="deqops", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else DONE
    except (click.Abort, KeyboardInterrupt):
        return _fail(INTERRUPTED, "interrupted; files already written are whole, and training resumes when run again")
    except SystemExit:  # click's way to end when nobody reads the output
        return CANNOT_WRITE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads: flush nowhere at exit
        return CANNOT_WRITE
    except (click.ClickException, CommandError, DeqopsError, ImportError, OSError) as error:
        return _fail(*_explained(error))


def _explained(error: Exception) -> tuple[int, str]:
    """The exit code and the line for an expected failure."""
    match error:
        case CommandError():
            return error.code, str(error)
        case click.UsageError():
            where = error.ctx.command_path if error.ctx is not None else "deqops"
            return USAGE, f"{error.format_message().rstrip('.')} (see `{where} --help`)"
        case click.ClickException():
            return USAGE, error.format_message()
        case ConvergenceError():
            return FAILED, str(error)
        case MissingDataError():
            return MISSING_FILE, str(error)
        case DeqopsError():
            return BAD_DATA, str(error)
        case ImportError():
            return MISSING_TOOL, f"{error}; install deqops with its dependencies"
        case FileNotFoundError() | PermissionError() | IsADirectoryError() | NotADirectoryError():
            return MISSING_FILE, f"cannot read {error.filename}: {error.strerror}; check the path"
        case _:
            return CANNOT_WRITE, f"input or output failed: {error}; free space or check the disk"


def _fail(code: int, message: str) -> int:
    click.echo(f"deqops: {' '.join(message.split())}", err=True)
    return code
