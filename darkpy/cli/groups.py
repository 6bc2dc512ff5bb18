"""Groups of commands, whose modules are imported when a command runs."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import NamedTuple

import click
from click.shell_completion import CompletionItem

from darkpy.cli.darknet_words import ABSENT_COMMANDS
from darkpy.cli.options import is_option, unknown_option
from darkpy.config.schema import nearest
from darkpy.errors import DarkpyError


class LazyCommand(NamedTuple):
    """A command by name: its module is imported when the command runs, not when commands are listed."""

    module: str
    function: str
    short_help: str

    def load(self) -> click.Command:
        command = getattr(import_module(self.module), self.function)
        assert isinstance(command, click.Command)
        return command


class Group(click.Group):
    """Commands whose options may stand before them, as in `darknet -i 0 detector test`.

    Listing and completing command names imports none of them.
    """

    def __init__(self, name: str, subcommands: Mapping[str, LazyCommand | Group], *, help: str) -> None:
        super().__init__(name, help=help, context_settings={"help_option_names": ["-h", "--help"]})
        self.subcommands = subcommands

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self.subcommands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command = self.subcommands.get(cmd_name)
        return command.load() if isinstance(command, LazyCommand) else command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._short_help(name)) for name in self.list_commands(ctx)])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        items = [CompletionItem(name, help=self._short_help(name)) for name in names]
        return [*items, *click.Command.shell_complete(self, ctx, incomplete)]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(2)
        own = {name for option in self.get_params(ctx) for name in option.opts}
        if args and is_option(args[0]) and args[0] not in own:
            position = next((position for position, word in enumerate(args) if word in self.subcommands), None)
            if position is not None:
                args = [args[position], *args[:position], *args[position + 1 :]]
            elif not ctx.resilient_parsing:
                raise unknown_option(args[0], ctx.command_path, sorted(own))
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.subcommands and not ctx.resilient_parsing:
            group = ctx.command_path.split()[1:]
            paths = (" ".join((*group, *args[:count])) for count in (2, 1))
            if path := next((path for path in paths if path in ABSENT_COMMANDS), None):
                purpose, hint = ABSENT_COMMANDS[path]
                raise DarkpyError(f"{path} {purpose}; darkpy does not have it", hint=hint)
            hint = nearest(args[0], self.subcommands) or f"{ctx.command_path} --help lists them"
            raise DarkpyError(f"{ctx.command_path} has no command {args[0]!r}", hint=hint)
        return super().resolve_command(ctx, args)

    def _short_help(self, name: str) -> str:
        command = self.subcommands[name]
        return command.short_help if isinstance(command, LazyCommand) else command.get_short_help_str(limit=100)
