"""Settings of every test."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))

# Shared machines stall; a slow example is no fault of the code under test.
settings.register_profile("fallow", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fallow")
