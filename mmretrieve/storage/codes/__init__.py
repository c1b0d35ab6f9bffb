"""Token codes beside the tables: what search scans. Derived from the tables, and rebuilt at any time."""
