"""One table a command, each against its peer in the same run: `python -m bench`, or `python -m bench NAME`."""
