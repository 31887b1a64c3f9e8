"""Deploys: the archives of projects, where they are kept, and how one comes to run."""
