"""Row rules: who may see and change which documents."""
