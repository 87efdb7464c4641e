"""The keys that bookmark dimensions and go from one to the next; a session keeps them.

Each action of the key table is one method named after its id; nothing here edits the intervention.
"""

from __future__ import annotations

from tpe_tui.inspector.frame import InspectFrame

__all__ = ["BookmarkActions"]


class BookmarkActions:
    """The keys of `frame` for the dimensions that the user wants to come back to."""

    def __init__(self, frame: InspectFrame) -> None:
        self.frame, self.workspace = frame, frame.workspace

    def bookmark_toggle(self) -> None:
        """Bookmark the dimension under the cursor, or remove its bookmark."""
        dims, keys, status = self.frame.dims, self.workspace.keymap, self.workspace.status
        dim = dims.dim
        if dim is None:
            self.workspace.has_table()
            return
        dims.bookmark(dim)
        many = len(dims.bookmarks)
        if dim in dims.bookmarks:
            goes, lists = keys.shown("bookmark.next"), keys.shown("find.filter")
            status.say(f"dim {dim} is bookmarked, {many} in all: {goes} goes on, {lists} bookmarked lists them")
        else:
            status.say(f"dim {dim} is bookmarked no more: {many} left")

    def bookmark_next(self, count: int = 1) -> None:
        """Go to the next bookmarked dimension from the cursor down, and from the last to the first; `count` of them."""
        dims, status = self.frame.dims, self.workspace.status
        if not self.workspace.has_table():
            return
        rows = [row for row, dim in enumerate(dims.order.tolist()) if dim in dims.bookmarks]
        if not rows:
            key = self.workspace.keymap.shown("bookmark.toggle")
            hidden = "none of the bookmarked dimensions passes the filter"
            status.say(hidden if dims.bookmarks else f"no dimension is bookmarked: {key} does it", "warn")
            return
        passed = sum(row <= dims.cursor for row in rows)
        at = (passed + count - 1) % len(rows)
        self.frame.show_pane(1)
        dims.go(rows[at])
        status.say(f"bookmark {at + 1} of {len(rows)}")
