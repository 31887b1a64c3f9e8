"""What shapes documents, arguments and results may have."""
