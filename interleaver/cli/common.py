"""What the commands share: their options, and errors that are one line each."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from interleaver.errors import BadInput, InterleaverError

if TYPE_CHECKING:
    from interleaver.traces.runs import RunStore

UNFINISHED = 3
INTERRUPTED = 130
F = TypeVar("F", bound=Callable[..., Any])


def clear_errors(command: F) -> F:
    """Turn errors that were foreseen into one line and an exit code."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except BadInput as error:
            raise click.UsageError(str(error)) from None
        except InterleaverError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(UNFINISHED)
        except (BrokenPipeError, click.Abort):
            raise
        except Exception as error:
            if click.get_current_context().find_root().params.get("debug"):
                raise
            click.echo(f"Error: {type(error).__name__}: {error} (interleaver --debug shows where)", err=True)
            sys.exit(UNFINISHED)

    return wrapped  # type: ignore[return-value]


class OneLineErrors(click.Group):
    """A group whose usage errors are one line each, without the usage text in front."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line."""
        try:
            return super().main(*args, **{**kwargs, "standalone_mode": False})
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            sys.exit(2)
        except click.ClickException as error:
            click.echo(f"Error: {error.format_message()}", err=True)
            sys.exit(error.exit_code)
        except click.exceptions.Exit as error:
            sys.exit(error.exit_code)
        except click.Abort:
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            # A reader that stops early (`interleaver runs list | head -1`) is no error.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


profile_option = click.option(
    "--profile",
    metavar="FILE|NAME",
    help="The profile, or the name of a ready one [default: interleaver.toml, if there].",
)
out_option = click.option("--out", metavar="DIR|URL", help="Where the runs are kept [default: out].")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for a machine.")


def open_store(profile: str | None, out: str | None) -> RunStore:
    """The store of the runs that a command is about."""
    from interleaver.config import load_profile

    return load_profile(profile).store.open(out)


def check_new_folder(out: Path) -> None:
    """See to it that a folder that is going to be written holds nothing yet.

    Raises:
        BadInput: it does.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"--out {str(out)!r} is there already; give a new folder")
