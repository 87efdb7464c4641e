"""Keys, clicks, pastes and sizes in the order in which they came, one at a time.

Textual hands a key to the widget that has the focus when the key arrives, and looks its action up on the screen that is
on top when it has bubbled up. A key that opens a dialog and the text typed right behind it thus go different ways: the
text to the widget below, the control keys to the dialog. Here the next input waits until everything that the one before
it set off has been done: the dialog stands and has the focus, or is gone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from textual import events
from textual.message_pump import MessagePump

if TYPE_CHECKING:
    from textual.app import App
    from textual.widget import Widget

    from tpe_tui.shell.burst import Burst

__all__ = ["InputOrder"]

PATIENCE = 5.0  # seconds; a widget that has not answered by then holds up the keys no longer
LOOK = 0.05  # seconds between two looks for widgets that are gone
STEP = 0.004  # seconds between two looks at a screen's size
LAYOUTS = 2  # another size may be another style, which is laid out anew
REFRESH = 0.5  # seconds that a layout may take
ROUNDS = 40  # a key and what it sets off pass a dozen queues at most; a job's messages go on and on
CLEAN = 2  # rounds in a row in which nobody had anything left to do
FAST = 4  # keys in `FAST_SECONDS` are more than anybody types, or a held key repeats
FAST_SECONDS = 0.05
LINGER = 0.015  # seconds without a key that end a burst
PASSING = (events.MouseMove, events.Enter, events.Leave)


@dataclass(slots=True)
class _Turn:
    """A pump has come to what was put behind everything it had to handle.

    Textual looks at a callback's signature, once for a method and every time for a function made on the spot.
    """

    pump: MessagePump
    left: set[MessagePump]
    done: asyncio.Event

    def came(self) -> None:
        self.left.discard(self.pump)
        if not self.left:
            self.done.set()


class InputOrder:
    """Decides which input an app may handle now. `admit` asks, `handled` says that it was."""

    def __init__(self, app: App[Any], burst: Burst) -> None:
        self._app = app
        self._burst = burst
        self._waiting: deque[events.Event] = deque()
        self._admitted: events.Event | None = None
        self._settling: asyncio.Task[None] | None = None
        self._layout: object = None
        self._came: deque[float] = deque(maxlen=FAST)  # when the last keys came
        self._lingering: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether everything that was typed has been handled, with what follows from it."""
        return self._settling is None and not self._waiting and self._admitted is None

    @staticmethod
    def concerns(event: events.Event) -> bool:
        """Whether an event is input that has an order, seen by the app before any widget."""
        if isinstance(event, PASSING):
            return False
        return isinstance(event, (events.InputEvent, events.Paste, events.Resize)) and not event.is_forwarded

    def admit(self, event: events.Event) -> bool:
        """Whether `event` may be handled now; if not, it comes again when its turn is."""
        if event is self._admitted:
            self._admitted = None
            return True
        if isinstance(event, events.Key):
            self._came.append(asyncio.get_running_loop().time())
            if self._is_fast:
                self._burst.begin()
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        if self.idle:
            return True
        self._waiting.append(event)
        self._burst.begin()
        return False

    @property
    def _is_fast(self) -> bool:
        """Whether keys come in a burst, though each may be handled before the next one is there."""
        return len(self._came) == FAST and asyncio.get_running_loop().time() - self._came[0] < FAST_SECONDS

    def _quieted(self) -> None:
        """No key came for a while."""
        if self.idle:
            self._burst.end()

    def handled(self, event: events.Event) -> None:
        """The app has handled an event or handed it on; the next one waits until what follows from it is done."""
        self._settling = asyncio.create_task(self._settle(event))

    async def _settle(self, event: events.Event) -> None:
        try:
            if not isinstance(event, events.Key) or not await self._passed(event):
                await self._quiet()
            layout = self._arrangement()
            if layout != self._layout:  # it is laid out first
                self._layout = layout
                self._burst.end()  # what it changed is drawn first
                for _ in range(LAYOUTS):
                    await self._laid_out()
                    await self._quiet()
        finally:
            self._settling = None
            if self._waiting:
                self._burst.begin()
                self._admitted = self._waiting.popleft()
                if not self._app.post_message(self._admitted):
                    self._admitted = None  # the app is closing
            elif self._is_fast:
                loop = asyncio.get_running_loop()
                self._lingering = loop.call_later(LINGER, self._app.call_later, self._quieted)
            else:
                self._burst.end()

    def _arrangement(self) -> tuple[object, ...]:
        """What a layout follows from: another size, another screen, or another pane to be seen."""
        return (self._app.size, *self._app.screen_stack, *[widget.display for widget in self._widgets()[1:]])

    def _widgets(self) -> list[Widget]:
        """The screen on top and every widget on it; several times as fast as Textual's general walk through a tree."""
        found: list[Widget] = [*self._app.screen_stack[-1:]]
        for widget in found:
            found.extend(widget.children)
        return found

    def _pumps(self) -> list[MessagePump]:
        return [self._app, *self._widgets()]

    async def _passed(self, key: events.Key) -> bool:
        """Follow a key and what it set off; whether all of that is done, and no widget came or went.

        Most keys move something that is there. Asking every widget on screen again and again, as `_quiet` does, costs
        several times as much as such a key itself.
        """
        before = self._pumps()
        if key.is_forwarded and (stack := self._app.screen_stack):  # to the widget with the focus, then up to the app
            focused = stack[-1].focused
            for pump in [*([stack[-1]] if focused is None else focused.ancestors_with_self), self._app]:
                await self._round([pump])
        for _ in range(ROUNDS):
            if self._pumps() != before:
                return False
            busy = [pump for pump in before if pump.message_queue_size]
            if not busy:
                return True
            await self._round(busy)
        return False

    async def _quiet(self) -> None:
        """Wait until neither the app nor any widget on screen has anything left to handle."""
        clean, before = 0, self._pumps()
        for _ in range(ROUNDS):
            await self._round(before)
            now = self._pumps()
            busy = now != before or any(pump.message_queue_size for pump in now)
            clean, before = 0 if busy else clean + 1, now
            if clean == CLEAN:
                return

    async def _round(self, pumps: Iterable[MessagePump]) -> None:
        """Wait until each of `pumps` has come to the end of what it had to handle."""
        left: set[MessagePump] = set()
        done = asyncio.Event()
        for pump in pumps:
            left.add(pump)
            if not pump.post_message(events.Callback(_Turn(pump, left, done).came)):
                left.discard(pump)
        end = asyncio.get_running_loop().time() + PATIENCE
        while left and asyncio.get_running_loop().time() < end:
            try:
                await asyncio.wait_for(done.wait(), LOOK)
            except TimeoutError:
                alive = set(self._pumps())
                left &= alive

    async def _laid_out(self) -> None:
        """Wait until the screen on top is laid out in the app's size; another one may come on top meanwhile."""
        end = asyncio.get_running_loop().time() + REFRESH
        asked, done = None, asyncio.Event()
        while (stack := self._app.screen_stack) and not done.is_set() and asyncio.get_running_loop().time() < end:
            if stack[-1].outer_size != self._app.size:  # Textual waits a little for further sizes
                await asyncio.sleep(STEP)
            elif stack[-1] is not asked:  # a covered screen never refreshes, nor calls back
                asked, done = stack[-1], asyncio.Event()
                if not asked.call_after_refresh(done.set):
                    return
            else:
                with suppress(TimeoutError):
                    await asyncio.wait_for(done.wait(), LOOK)
