"""Hooks of mkdocs: links to files beside docs/, the help of commands, the names of documents, the cells of a notebook.

Pages may link to files beside docs/ by the same relative path that works on a code host. A page with the line `HELP`
has what the program prints of itself there, one with `NAMES` the names of every JSON document, one with a line of
`CELLS` the notebook that it names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parent.parent
HELP = "<!-- the help of every command -->"
NAMES = "<!-- the names of every JSON document -->"
COLUMNS = 100  # of a help text; narrower than the page
CELLS = re.compile(r"<!-- cells of (\w+\.ipynb) -->")
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
    """Take ``../`` off links to those files: in the site they lie beside the pages. Put in help and cells."""
    if HELP in markdown:
        markdown = markdown.replace(HELP, command_help())
    if NAMES in markdown:
        markdown = markdown.replace(NAMES, document_names())
    markdown = CELLS.sub(lambda named: notebook_cells(ROOT / "docs" / named[1]), markdown)
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


def document_names() -> str:
    """A section for each `--json` document with its names, their types and what they mean, from its JSON Schema."""
    sections = []
    for path in sorted((ROOT / "tpe_tui" / "schemas").glob("*.schema.json")):
        command = path.name.removesuffix(".schema.json")
        rows = "\n".join(_names(json.loads(path.read_text(encoding="utf-8")), ""))
        sections += [f"## tpe {command}", "", "| name | type | meaning |", "|---|---|---|", rows, ""]
    return "\n".join(sections)


def _names(schema: dict[str, Any], path: str) -> Iterator[str]:
    if "items" in schema:
        yield from _names(schema["items"], f"{path}[]")
    further = schema.get("additionalProperties")
    inside = dict(schema.get("properties", {})) | ({"*": further} if isinstance(further, dict) else {})
    for name, below in inside.items():
        kinds = [below["type"]] if isinstance(below["type"], str) else below["type"]
        whole = f"{path}.{name}" if path else name
        yield f"| `{whole}` | {' or '.join(kinds)} | {below.get('description', '')} |"
        yield from _names(below, whole)


def notebook_cells(path: Path) -> str:
    """The cells of a notebook with what they put out as Markdown, without its first heading."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n\n".join(part for cell in cells for part in _cell(cell))
    return re.sub(r"\A# .*\n", "", text)


def _cell(cell: dict[str, Any]) -> Iterator[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
        return
    yield f"```python\n{source}\n```"
    for output in cell["outputs"]:
        data = {kind: "".join(value) for kind, value in output.get("data", {}).items()}
        if "image/png" in data:
            shown = data["image/png"].replace("\n", "")
            yield f'<img alt="{escape(source)}" src="data:image/png;base64,{shown}" style="max-width:100%">'
        elif "text/html" in data:
            html = re.sub(r"<style.*?</style>", "", data["text/html"], flags=re.DOTALL)
            in_one_line = re.sub(r"\n *", "", html.replace(' border="1" class="dataframe"', ""))  # the site's own look
            yield f"<div>{in_one_line}</div>"
        else:
            said = data.get("text/plain") or "".join(output.get("text", ""))
            yield f"```text\n{said.rstrip()}\n```"
