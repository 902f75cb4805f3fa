"""Options, error handling and helpers that the commands share."""

from __future__ import annotations

import asyncio
import functools
import io
import ipaddress
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from interleaver.errors import BadInput, InterleaverError
from interleaver.types import plain_text

if TYPE_CHECKING:
    from interleaver.profile import Profile
    from interleaver.traces.runs import RunStore
    from interleaver.upkeep.deletion import Deletion

EXIT_UNFINISHED = 3
EXIT_INTERRUPTED = 130
F = TypeVar("F", bound=Callable[..., Any])


def one_line_errors(command: F) -> F:
    """Decorate a command so that it reports errors in one line, with an exit code, instead of a traceback."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except BadInput as error:
            raise click.UsageError(str(error)) from None
        except InterleaverError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(EXIT_UNFINISHED)
        except (BrokenPipeError, click.Abort):
            raise  # click ends quietly when the reader of a pipe has gone (`interleaver runs list | head -1`)
        except Exception as error:
            if click.get_current_context().find_root().params.get("debug"):
                raise
            click.echo(
                f"Error: {type(error).__name__}: {plain_text(str(error))} (interleaver --debug shows the traceback)",
                err=True,
            )
            sys.exit(EXIT_UNFINISHED)

    return wrapper  # type: ignore[return-value]


class OneLineErrors(click.Group):
    """A click group that reports usage errors in one line, without the usage text before it."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # not in a notebook
                stream.reconfigure(errors="replace")  # a console whose encoding lacks a letter must not end a run
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
            sys.exit(EXIT_INTERRUPTED)


profile_option = click.option(
    "--profile",
    metavar="FILE|NAME",
    help="Profile file, or the name of a built-in profile [default: interleaver.toml, if it exists].",
)
out_option = click.option("--out", metavar="DIR|URL", help="Run store [default: store.out of the profile, or out].")
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def other_users_options(function: F) -> F:
    """Add `--keep` and `--not-shared`, which say who else uses the image store."""
    keep = click.option(
        "--keep",
        multiple=True,
        metavar="SOURCE",
        help="Another source that uses the same image store, such as a LangGraph server; can be repeated.",
    )
    not_shared = click.option(
        "--not-shared", is_flag=True, help="Confirm that nothing else uses the profile's image store."
    )
    return keep(not_shared(function))


WITHOUT_KEY = "interleaver.without_key"


def _note_without_key(context: click.Context, _: click.Parameter, value: bool) -> None:
    context.meta[WITHOUT_KEY] = value


def _check_host(context: click.Context, _: click.Parameter, host: str) -> str:
    """Refuse to listen beyond this machine without a key, unless told to."""
    is_open = host != "localhost" and not _is_loopback(host)
    if is_open and not context.params.get("api_key_env") and not context.meta[WITHOUT_KEY]:
        raise click.BadParameter(
            f"{host} can be reached from other machines, and nobody would need a key; give --api-key-env, or add "
            "--without-key if a proxy or a firewall decides who may come"
        )
    return host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# Options with `is_eager` are read first, so that the address can be checked against them.
without_key_option = click.option(
    "--without-key", is_flag=True, is_eager=True, expose_value=False, callback=_note_without_key,
    help="Listen beyond this machine although no key is asked for.",
)  # fmt: skip
api_key_env_option = click.option(
    "--api-key-env",
    metavar="NAME",
    is_eager=True,
    help="Environment variable with the API key that clients must send.",
)
requests_per_minute_option = click.option(
    "--requests-per-minute",
    type=click.IntRange(1),
    metavar="N",
    help="Refuse further requests of one client address [default: no limit].",
)
host_option = click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    callback=_check_host,
    help="Address to listen on; 0.0.0.0 for all, which needs a key.",
)


def apply_retention(profile: Profile, store: RunStore) -> None:
    """Delete the runs that are older than the profile's `store.keep_days`, and tell how many."""
    from interleaver.upkeep.deletion import delete_expired_runs

    try:
        deletion = asyncio.run(delete_expired_runs(profile, store))
    except InterleaverError as error:  # what was asked for has been done
        click.echo(f"Warning: old runs could not be deleted: {error}", err=True)
        return
    if deletion.run_ids:
        click.echo(f"Deleted {describe_deletion(deletion)} (store.keep_days = {profile.store.keep_days:g})", err=True)


def describe_deletion(deletion: Deletion) -> str:
    """Return what was deleted, and what was kept for which reason."""
    run_count = len(deletion.run_ids)
    text = f"{run_count:,} run{'s' * (run_count != 1)} and {deletion.pictures:,} pictures"
    text += f" ({deletion.bytes / 2**20:,.1f} MiB)" if deletion.pictures else ""
    return f"{text}; kept their other pictures: {deletion.reason}" if deletion.reason else text


def open_store(profile: str | None, out: str | None) -> RunStore:
    """Open the run store that the options `--profile` and `--out` select."""
    from interleaver.profile import load_profile
    from interleaver.runner import open_run_store

    return open_run_store(load_profile(profile), out)


def check_new_folder(out: Path) -> None:
    """Check that an output folder does not exist yet or is empty.

    Raises:
        BadInput: the path is a file or a folder that is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"--out {str(out)!r} already exists and is not an empty folder; give a new folder")
