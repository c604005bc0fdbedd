"""From providers to tables, without Dagster: plan, fetch, land, validate, store. Assets and verbs call this."""
