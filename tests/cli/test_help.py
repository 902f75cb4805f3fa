"""What `--help` shows."""

import click
import pytest
from click.testing import CliRunner

from interleaver.cli import main


def commands(group, *names):
    """Every command of the command line, as the words that a user types."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *names, name)
        else:
            yield [*names, name]


@pytest.mark.parametrize("command", list(commands(main)), ids=" ".join)
def test_every_command_has_help_with_an_example(command):
    result = CliRunner().invoke(main, [*command, "--help"])
    assert result.exit_code == 0
    assert f"interleaver {' '.join(command)}" in result.output


@pytest.mark.parametrize("command", list(commands(main)), ids=" ".join)
def test_every_option_has_help(command):
    found = main
    for name in command:
        found = found.commands[name]
    silent = [param.name for param in found.params if isinstance(param, click.Option) and not param.help]
    assert silent == []
