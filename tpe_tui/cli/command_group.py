"""The group of subcommands: what a bare `tpe [MODEL]` means, and what a shell may complete in its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from typer.core import TyperGroup

from tpe_tui.cli.conversion import convert_when_needed

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["OPEN", "CommandGroup", "first_word"]

OPEN = "inspect"  # the command that a bare `tpe [MODEL]` means
VERSION = "--version"  # may stand anywhere
FLAGS = ("--debug", "--json", "--no-cache", "--offline", "--trust-remote-code")  # may stand before a command


class CommandGroup(TyperGroup):
    """Commands of which `OPEN` may be left out. A group below it may have a model's name, as `tpe demo` has."""

    def get_params(self, ctx: Any) -> list[Any]:
        """All parameters, each converted where it was given."""
        return convert_when_needed(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse a command line after putting in the command that it leaves out."""
        return super().parse_args(ctx, self._completed_words(args) if ctx.resilient_parsing else self.expanded(args))

    def expanded(self, words: Sequence[str]) -> list[str]:
        """The words with the command in front: `OPEN` where the first word is no command, and for `demo` alone."""
        if OPEN not in self.commands:
            return list(words)
        if VERSION in words[: words.index("--") if "--" in words else None]:
            return [VERSION]
        flags, rest = _split(words)
        names = {*self.commands, *self._own_options()}
        command = self.commands.get(rest[0]) if rest else None
        if isinstance(command, CommandGroup):
            names = {rest[0]} if rest[1:] and rest[1] in {*command.commands, *command._own_options()} else set()
        return [*rest, *flags] if rest and rest[0] in names else [OPEN, *words]

    def _completed_words(self, words: Sequence[str]) -> list[str]:
        """The words before the one that a shell completes: where a command may still come, this group completes it."""
        _, rest = _split(words)
        if not rest or (len(rest) == 1 and isinstance(self.commands.get(rest[0]), CommandGroup)):
            return rest
        return self.expanded(words)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Subcommands and options of this group, and what the command that may be left out would offer here."""
        items = super().shell_complete(ctx, incomplete)
        root = ctx.find_root()
        opening = root.command.commands[OPEN]
        with opening.make_context(OPEN, [], parent=root, resilient_parsing=True) as below:
            if incomplete.startswith("-"):
                items += opening.shell_complete(below, incomplete)
            elif ctx is root:
                items += next(each for each in opening.params if each.name == "model").shell_complete(below, incomplete)
        return list({item.value: item for item in reversed(items)}.values())[::-1]

    def _own_options(self) -> Iterable[str]:
        return ["--help", *(name for parameter in self.params for name in parameter.opts)]


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """(flags that stand before a command, the rest)."""
    at = next((i for i, word in enumerate(words) if word not in FLAGS), len(words))
    return list(words[:at]), list(words[at:])


def first_word(words: Sequence[str]) -> str | None:
    """The first word behind the flags that may stand before a command."""
    return next(iter(_split(words)[1]), None)
