"""What type checkers know of a project: its functions and documents as Python stubs and TypeScript declarations."""
