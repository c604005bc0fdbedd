"""Everything Dagster: partitions, resources, assets, checks, jobs."""

import warnings

import dagster as dg

# In beta since 1.5 and what bundles the partitions of a backfill into few runs; a release that changes it fails our tests.
warnings.filterwarnings("ignore", message="Parameter `backfill_policy`", category=dg.BetaWarning)
# In beta likewise, and the one way to say that a year depends on its months.
warnings.filterwarnings("ignore", message="Class `(Multi|Dimension)PartitionMapping`", category=dg.BetaWarning)
warnings.filterwarnings("ignore", message="Parameter `allow_nonexistent_upstream", category=dg.BetaWarning)
# In beta, and the one way to have conditions of our own; see automation.py.
warnings.filterwarnings("ignore", message="Parameter `use_user_code_server`", category=dg.BetaWarning)
