"""Import and export: all data of a deployment, or single tables, as files."""
