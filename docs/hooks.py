"""Hooks of mkdocs: pages may link to files beside docs/ by the same relative path that works on a code host."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parent.parent
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
    """Take ``../`` off links to those files: in the site they lie beside the pages."""
    return re.sub(r"\]\(\.\./(screenshots/|tpe_core/)", r"](\1", markdown)
