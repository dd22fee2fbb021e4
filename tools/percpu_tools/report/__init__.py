"""The reports: each module turns what `check` found into one format."""
