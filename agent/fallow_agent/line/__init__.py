"""The internet line: what it can carry, what the household uses, and what is left for others.

``sharing`` is the loop. Through ``reader`` it asks ``household`` (who sees it) and ``budget`` (what it leaves), sets
``pacer``, and keeps ``harm`` with ``contrast``, the record of how that went. ``survey`` finds out about the line beside
it: ``capacity`` by what ``observed``, ``sqm``, ``train`` and ``router`` know. ``meter`` and ``router`` read counters;
``echo``, ``path`` and ``delay`` make round-trip times, which ``delay_probe`` drives. ``forecast`` looks ahead.
"""

FORECAST, HARM, OBSERVED = HOUSEHOLD_SETTINGS = ("forecast", "harm", "observed")
"""Names of settings that tell of a household and its line, and are forgotten with its owner."""
