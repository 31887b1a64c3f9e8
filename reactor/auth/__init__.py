"""Tokens to identity: admin keys, user claims."""
