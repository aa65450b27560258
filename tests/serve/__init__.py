"""The server, mostly in a process of its own."""
