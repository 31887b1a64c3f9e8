"""Environment variables, and the addresses under which a deployment is reached."""
