"""Pools of runs, besides those of the providers (assets/raw.py); dagster.yaml says how many runs stand in one at once."""

# What rewrites or drops many rows at a stretch: rollups, retention. Two at once would only wait for each other's locks and
# take the disk from those who read.
HEAVY_WRITES = "heavy_writes"
