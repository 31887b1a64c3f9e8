"""Components: packages with tables and functions of their own, mounted in an application."""
