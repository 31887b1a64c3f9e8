"""What app developers and our own tests use to test functions: the pytest plugin and the virtual clock."""
