"""Keys that no widget takes for itself, so that the app can act on them at once.

Textual passes a key to the widget with the focus, and from there up through every container to the app, each with a
message queue of its own, before the app looks up what the key does. Where none of them has a handler for it, the way
changes nothing and costs more than most actions: several milliseconds, which a key that is held down over SSH pays
thirty times a second.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from textual import events
from textual.app import App
from textual.dom import DOMNode
from textual.widget import Widget

__all__ = ["act", "goes_to_app"]

HOOKS = ("on_key", "_on_key")


@lru_cache
def _handles_keys(kind: type[DOMNode]) -> bool:
    """Whether a class of widgets has a handler for every key: by its name or by Textual's decorator."""
    for cls in kind.__mro__:
        if cls is Widget:
            return False  # Textual's own only looks for methods that are named after a key
        own = vars(cls)
        if any(hook in own for hook in HOOKS) or events.Key in own.get("_decorated_handlers", {}):
            return True
    return False


def goes_to_app(app: App[Any], event: events.Key) -> bool:
    """Whether a key would reach the app unchanged: no widget from the focus upwards handles it."""
    screen = app.screen
    if screen.maximized is not None:
        return False
    path = [screen] if screen.focused is None else [node for node in screen.focused.ancestors_with_self if node != app]
    methods = [f"{prefix}key_{name}" for name in event.name_aliases for prefix in ("", "_")]
    if any(hasattr(app, method) for method in methods):
        return False
    return not any(_handles_keys(type(node)) or any(hasattr(node, method) for method in methods) for node in path)


async def act(app: App[Any], key: str) -> bool:
    """Do what a key that `goes_to_app` is bound to, as `App._check_bindings` does; whether it is bound to anything.

    Textual copies every table of bindings between the focus and the app, twice a key, to take out the keys that a
    widget consumes and to put in a user's own. Nothing consumes a key that goes to the app; with keys of the user's
    own the general way is taken.
    """
    if app._keymap:
        return await app._check_bindings(key, priority=True) or await app._check_bindings(key)
    chain = app._binding_chain
    modal = next((at for at, (node, _) in enumerate(chain, 1) if node.is_modal), len(chain))
    for priority, nodes in ((True, reversed(chain)), (False, chain[:modal])):
        for node, bindings in nodes:
            for binding in bindings.key_to_bindings.get(key, ()):
                if binding.priority == priority and await app.run_action(binding.action, node):
                    return True
    return False
