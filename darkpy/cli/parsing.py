"""Command lines as darknet's users write them.

An option may stand anywhere, also before the command; it begins with one dash or two, and `_` and `-` inside it do not
count: `-ext_output`, `--ext-output` and `--extoutput` are one option. What no command knows is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from itertools import islice

import click

from darkpy.config.schema import nearest
from darkpy.errors import DarkpyError

_VIDEO = "is for cameras and video"
_FRAMES = "cut the video into images and give darkpy detect their folder"
_PORT = "is for servers, and darkpy opens no port"
_JSON = "darkpy detect --json prints what programs read"
ABSENT = {
    **dict.fromkeys(("c", "s", "w", "fps", "prefix", "avg", "avgframes", "outfilename"), (_VIDEO, _FRAMES)),
    **dict.fromkeys(("timelimitsec", "dontdrawbbox", "jsonfileoutput"), (_VIDEO, _FRAMES)),
    **dict.fromkeys(("jsonport", "mjpegport", "httpposthost"), (_PORT, _JSON)),
    "showimgs": ("shows images while it trains, and darkpy opens no window", "leave it out"),
    "topk": ("judges a classifier while it is trained", "darkpy classifier valid judges each checkpoint"),
}
"""darknet's options for what darkpy does not have: what they are for, and what to do instead."""
ALIASES = {"nogpu": ("--device", "cpu")}


class Command(click.Command):
    """A command whose options may be written darknet's way."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, list(self._respelled(ctx, args)))

    def _respelled(self, ctx: click.Context, args: Sequence[str]) -> Iterator[str]:
        options = [option for option in self.get_params(ctx) if isinstance(option, click.Option)]
        named = [(name, option) for option in options for name in (*option.opts, *option.secondary_opts)]
        known = {_bare(name): (name, option) for name, option in reversed(named)}
        words = iter(args)
        for word in words:
            if word == "--":
                yield word
                yield from words
                return
            name, equals, value = word.partition("=")
            bare = _bare(name)
            if not _is_option(word):
                yield word
            elif bare in known:
                spelled, option = known[bare]
                yield from (spelled, value) if equals else (spelled,)
                if not equals and not option.is_flag and not option.count:
                    yield from islice(words, option.nargs)
            elif bare in ALIASES and "device" in known:
                yield from ALIASES[bare]
            elif ctx.resilient_parsing:  # completing a word that is not finished
                yield word
            else:
                raise _unknown(name, ctx.command_path, [spelled for spelled, _ in known.values()])


class Group(click.Group):
    """Commands with options of theirs that may stand before them, as in `darknet -i 0 detector test`."""

    command_class = Command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(2)
        own = {name for option in self.get_params(ctx) for name in option.opts}
        if args and _is_option(args[0]) and args[0] not in own:
            place = next((place for place, word in enumerate(args) if word in self.commands), None)
            if place is not None:
                args = [args[place], *args[:place], *args[place + 1 :]]
            elif not ctx.resilient_parsing:
                raise _unknown(args[0], ctx.command_path, sorted(own))
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands and not ctx.resilient_parsing:
            hint = nearest(args[0], self.commands) or f"one of {', '.join(sorted(self.commands))}"
            raise DarkpyError(f"{ctx.command_path} has no command {args[0]!r}", hint=hint)
        return super().resolve_command(ctx, args)


def _bare(name: str) -> str:
    return name.replace("-", "").replace("_", "")


def _is_option(word: str) -> bool:
    return word.startswith("-") and word != "-"


def _unknown(name: str, command: str, known: Sequence[str]) -> DarkpyError:
    if _bare(name) in ABSENT:
        purpose, instead = ABSENT[_bare(name)]
        return DarkpyError(f"{name} {purpose}", hint=instead)
    spelled = {_bare(one): one for one in known}
    close = get_close_matches(_bare(name), spelled, n=1)
    hint = f"did you mean {spelled[close[0]]}?" if close else f"{command} --help lists them"
    return DarkpyError(f"{command} has no option {name}", hint=hint)
