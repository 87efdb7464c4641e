"""Runs the app in a real terminal on a fake session that also writes to descriptors 1 and 2, as native code does."""

from __future__ import annotations

import sys

import fake_app

fake_app.run(sys.argv[1:])
