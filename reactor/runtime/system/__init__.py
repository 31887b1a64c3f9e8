"""Functions that every deployment has, for its administrators; `runtime/system_functions` lists them."""
