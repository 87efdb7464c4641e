"""Hooks of mkdocs: links to files beside docs/, and the help of every command.

Pages may link to files beside docs/ by the same relative path that works on a code host. A page with the line `HELP`
has what the program prints of itself there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parent.parent
HELP = "<!-- the help of every command -->"
COLUMNS = 100  # of a help text; narrower than the page
BESIDE = ("screenshots/*.png", "tpe_core/demo/model/README.md")


def on_files(files: Files, config: Any) -> Files:
    """Add the files beside docs/ that pages link to."""
    for pattern in BESIDE:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(
                File(name, str(ROOT), config.site_dir, config.use_directory_urls, inclusion=InclusionLevel.NOT_IN_NAV)
            )
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Take ``../`` off links to those files: in the site they lie beside the pages. Put in the help texts."""
    if HELP in markdown:
        markdown = markdown.replace(HELP, command_help())
    return re.sub(r"\]\(\.\./(screenshots/|tpe_core/)", r"](\1", markdown)


def command_help() -> str:
    """A section for each command with its help text."""
    from typer.testing import CliRunner

    from tpe_tui.cli.main import COMMANDS, command_line

    app, sections = command_line(), []
    for words in ([], *(each.name.split() for each in COMMANDS.values() if not each.is_hidden)):
        printed = CliRunner().invoke(
            app, [*words, "--help"], prog_name="tpe", terminal_width=COLUMNS, max_content_width=COLUMNS
        )
        if printed.exit_code:
            raise RuntimeError(f"tpe {' '.join(words)} --help failed: {printed.output}")
        sections += [f"## {' '.join(['tpe', *words])}", "", "```text", printed.output.strip(), "```", ""]
    return "\n".join(sections)
