"""The database proper: snapshots, transactions, commits, and who must be rerun."""
