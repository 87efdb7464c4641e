"""The inspector in a browser: a server, a page, and a driver that draws over a WebSocket."""
