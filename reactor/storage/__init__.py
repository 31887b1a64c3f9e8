"""Durable records by timestamp; knows no transactions."""
