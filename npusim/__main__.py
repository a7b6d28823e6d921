"""``python -m npusim``: the same as the ``npusim`` command, for places where scripts are not on the path."""

from __future__ import annotations

from npusim.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
