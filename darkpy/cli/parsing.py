"""Command lines the way darknet's users write them.

Options may stand anywhere, also before the command, with one dash or two; `_` and `-` inside a name are ignored, so
`-ext_output`, `--ext-output` and `--extoutput` are the same option. Unknown options are errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from itertools import islice
from typing import NamedTuple

import click
from click.shell_completion import CompletionItem

from darkpy.config.schema import nearest
from darkpy.errors import DarkpyError

_FOR_VIDEO = ("is for cameras and video", "cut the video into images and give darkpy detect their folder")
_FOR_SERVERS = ("is for servers, and darkpy opens no port", "darkpy detect --json prints JSON for programs")
UNSUPPORTED_OPTIONS = {
    **dict.fromkeys(("c", "s", "w", "fps", "prefix", "avg", "avgframes", "outfilename"), _FOR_VIDEO),
    **dict.fromkeys(("timelimitsec", "dontdrawbbox", "jsonfileoutput"), _FOR_VIDEO),
    **dict.fromkeys(("jsonport", "mjpegport", "httpposthost"), _FOR_SERVERS),
    "showimgs": ("shows images during training, and darkpy opens no window", "leave it out"),
    "topk": ("evaluates a classifier during training", "darkpy classifier valid evaluates each checkpoint"),
}
"""darknet's options that darkpy lacks: their purpose, and a replacement."""
OPTION_ALIASES = {"nogpu": ("--device", "cpu")}


class Command(click.Command):
    """A command that accepts darknet's option spellings."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, list(self._normalize(ctx, args)))

    def _normalize(self, ctx: click.Context, args: Sequence[str]) -> Iterator[str]:
        """Yield the arguments with every option spelled as click knows it. Raises: DarkpyError."""
        options = [option for option in self.get_params(ctx) if isinstance(option, click.Option)]
        names = [(name, option) for option in options for name in (*option.opts, *option.secondary_opts)]
        known = {_strip_dashes(name): (name, option) for name, option in reversed(names)}
        words = iter(args)
        for word in words:
            if word == "--":
                yield word
                yield from words
                return
            name, equals, value = word.partition("=")
            bare = _strip_dashes(name)
            if not _is_option(word):
                yield word
            elif bare in known:
                spelling, option = known[bare]
                yield from (spelling, value) if equals else (spelling,)
                if not equals and not option.is_flag and not option.count:
                    yield from islice(words, option.nargs)
            elif bare in OPTION_ALIASES and "device" in known:
                yield from OPTION_ALIASES[bare]
            elif ctx.resilient_parsing:  # shell completion of an unfinished word
                yield word
            else:
                raise _unknown_option(name, ctx.command_path, [spelling for spelling, _ in known.values()])


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
        if args and _is_option(args[0]) and args[0] not in own:
            position = next((position for position, word in enumerate(args) if word in self.subcommands), None)
            if position is not None:
                args = [args[position], *args[:position], *args[position + 1 :]]
            elif not ctx.resilient_parsing:
                raise _unknown_option(args[0], ctx.command_path, sorted(own))
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.subcommands and not ctx.resilient_parsing:
            hint = nearest(args[0], self.subcommands) or f"one of {', '.join(sorted(self.subcommands))}"
            raise DarkpyError(f"{ctx.command_path} has no command {args[0]!r}", hint=hint)
        return super().resolve_command(ctx, args)

    def _short_help(self, name: str) -> str:
        command = self.subcommands[name]
        return command.short_help if isinstance(command, LazyCommand) else command.get_short_help_str(limit=100)


def _strip_dashes(name: str) -> str:
    return name.replace("-", "").replace("_", "")


def _is_option(word: str) -> bool:
    return word.startswith("-") and word != "-"


def _unknown_option(name: str, command: str, known: Sequence[str]) -> DarkpyError:
    if _strip_dashes(name) in UNSUPPORTED_OPTIONS:
        purpose, replacement = UNSUPPORTED_OPTIONS[_strip_dashes(name)]
        return DarkpyError(f"{name} {purpose}", hint=replacement)
    spellings = {_strip_dashes(spelling): spelling for spelling in known}
    close = get_close_matches(_strip_dashes(name), spellings, n=1)
    hint = f"did you mean {spellings[close[0]]}?" if close else f"{command} --help lists them"
    return DarkpyError(f"{command} has no option {name}", hint=hint)
