"""The pages of docs/: the site lists all of them, their links lead somewhere, their key tables are the program's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tpe_tui.comparison import screen as comparison
from tpe_tui.dynamics import experiment_screen
from tpe_tui.dynamics import screen as dynamics
from tpe_tui.edits import screen as edits_screen
from tpe_tui.fit import screen as fit_screen
from tpe_tui.generation import keys as generate_keys
from tpe_tui.jobs import screen as jobs
from tpe_tui.keymap import ACTIONS, BY_ID, load_keymap
from tpe_tui.prompts import screen as prompts_screen
from tpe_tui.steering import keys as steer_keys
from tpe_tui.sweep import screen as sweep

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
KEYS = (DOCS / "keys.md").read_text(encoding="utf-8")
STUDIES = {
    "Pruning sweep": sweep.KEYS,
    "Steering study": steer_keys.KEYS,
    "Generation": generate_keys.KEYS,
    "Training dynamics": dynamics.KEYS,
    "Experiment": experiment_screen.KEYS,
    "Comparison": comparison.KEYS,
    "Fit": fit_screen.KEYS,
    "Edits": edits_screen.KEYS,
    "Jobs": jobs.KEYS,
    "Prompts": prompts_screen.KEYS,
}


def pages_of(nav: Any) -> Iterator[str]:
    """The files that a nav of mkdocs names."""
    for entry in nav if isinstance(nav, list) else nav.values():
        if isinstance(entry, str):
            yield entry
        else:
            yield from pages_of(entry)


def test_the_site_lists_every_page_once_and_no_other() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(pages_of(config["nav"])) == [page.name for page in PAGES]


def test_the_site_fetches_nothing() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert config["theme"]["font"] is False
    assert not {"extra_css", "extra_javascript", "repo_url", "extra"} & set(config)
    assert not any(
        "```mermaid" in page.read_text(encoding="utf-8") for page in PAGES
    )  # drawn by a script from elsewhere


def anchor(heading: str) -> str:
    """What a code host and mkdocs both make of a plain heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_relative_links_lead_to_files_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        name, _, part = target.partition("#")
        file = page.parent / name if name else page
        assert file.is_file(), target
        headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE) if part else []
        assert not part or part in map(anchor, headings), target


def written(keys: str) -> str:
    """Keys of a binding as the page writes them."""
    return " ".join(f"`{key}`" for key in keys.split(","))


def inspector_tables() -> str:
    """The inspector's actions, a table for each group."""
    lines: list[str] = []
    for group in dict.fromkeys(action.group for action in ACTIONS):
        lines += [f"### {group}", "", "| key | what it does | id | without the screen |", "|---|---|---|---|"]
        for action in (action for action in ACTIONS if action.group == group):
            headless = f"`{action.headless}`" if action.headless else ""
            lines.append(
                f"| {written(action.keys)} | {action.help} | `{action.id}` | {headless} |".replace("|  |", "| |")
            )
        lines.append("")
    return "\n".join(lines)


def study_tables() -> str:
    """The keys of the study screens, a table for each."""
    lines: list[str] = []
    for name, keys in STUDIES.items():
        lines += [f"### {name}", "", "| key | what it does |", "|---|---|", *study_rows(keys), ""]
    return "\n".join(lines)


def study_rows(keys: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    for key, _, about in keys:
        yield f"| {written(BY_ID[key].keys if key in BY_ID else key)} | {about} |"


@pytest.mark.parametrize(
    ("section", "table"), [("The inspector", inspector_tables), ("The study screens", study_tables)]
)
def test_the_key_tables_are_the_programs(section: str, table: Callable[[], str]) -> None:
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## )", KEYS, re.MULTILINE | re.DOTALL)
    shown = text[text.index("### ") :].strip()
    assert shown == table().strip(), f"put this into {section!r} of docs/keys.md:\n\n{table()}"


def test_the_example_of_own_keys_is_taken_whole(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", KEYS, re.DOTALL)
    file = tmp_path / "keys.toml"
    file.write_text(example)
    keymap = load_keymap(file)
    assert keymap.problems == ()
    assert len(keymap.overrides) == len(example.splitlines())
