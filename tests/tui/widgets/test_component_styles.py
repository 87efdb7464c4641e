"""Colours of component classes: worked out when they are drawn, the same as if all had been, and kept up to date."""

from __future__ import annotations

from typing import Any

import pytest
from textual.dom import DOMNode

from tests.tui.helpers import Start
from tpe_tui.app import TpeApp
from tpe_tui.shell.theme import LIGHT
from tpe_tui.widgets.line_widget import LineWidget


def declared(widget: LineWidget) -> frozenset[str]:
    """All that its class may draw."""
    return super(LineWidget, widget)._get_component_classes()


def styled_by_textual(widget: LineWidget) -> dict[str, Any]:
    """The styles of every component class as Textual works them out."""
    styles = {}
    for name in declared(widget):
        node = DOMNode(classes=name)
        node._attach(widget)
        widget.app.stylesheet.apply(node)
        styles[name] = node.styles.rich_style
    return styles


def panes(app: TpeApp) -> list[LineWidget]:
    return list(app.screen.query(LineWidget))


async def test_only_what_is_drawn_is_styled_and_as_textual_would(start: Start) -> None:
    async with start(size=(160, 48)) as (app, _):
        found = panes(app)
        assert len(found) > 8
        assert sum(len(pane._component_styles) for pane in found) < sum(len(declared(pane)) for pane in found) / 2
        for pane in found:
            expected = styled_by_textual(pane)
            assert {name: pane.get_component_rich_style(name) for name in expected} == expected, pane.id
            assert pane._component_styles.keys() == expected.keys()


async def test_what_was_drawn_follows_the_focus_and_the_theme(start: Start) -> None:
    async with start(size=(160, 48)) as (app, pilot):
        pane = app.screen.query_one("#dims", LineWidget)
        cursor = pane.get_component_rich_style("line--cursor")
        await pilot.press("2")
        assert pane.get_component_rich_style("line--cursor").bgcolor != cursor.bgcolor
        drawn = {pane: pane.render_line(1) for pane in panes(app) if pane.size.area}
        app.register_theme(LIGHT)
        app.theme = LIGHT.name
        await pilot.pause()
        for pane, before in drawn.items():
            assert pane.render_line(1) != before or not before.text.strip(), pane.id
            expected = styled_by_textual(pane)
            assert {name: pane.get_component_rich_style(name) for name in expected} == expected, pane.id


async def test_a_class_that_was_not_declared_is_refused(start: Start) -> None:
    async with start() as (app, _):
        pane = app.screen.query_one("#dims", LineWidget)
        with pytest.raises(KeyError, match="line--none"):
            pane.get_component_rich_style("line--none")
