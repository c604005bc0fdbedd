"""Everything Dagster: partitions, resources, assets, checks, jobs."""

import warnings

import dagster as dg

# In beta since 1.5 and what bundles the partitions of a backfill into few runs; a release that changes it fails our tests.
warnings.filterwarnings("ignore", message="Parameter `backfill_policy`", category=dg.BetaWarning)
