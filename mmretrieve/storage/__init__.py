"""The index on disk: a manifest, LanceDB tables, a writer with a lock, and readers' snapshots."""
