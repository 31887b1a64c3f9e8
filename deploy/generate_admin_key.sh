#!/bin/sh
# Prints a new admin key, for the command line and the dashboard: docker compose exec backend ./generate_admin_key.sh
exec "$(dirname "$0")/run.sh" admin-key "$@"
