"""``python -m fallow_server``."""

from .cli import main

raise SystemExit(main())
