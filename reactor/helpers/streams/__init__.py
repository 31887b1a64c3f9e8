"""Streams of documents: filtered, mapped, joined and merged in order, and read page by page; `get_page` of an index."""

from reactor.helpers.streams.pages import IndexPage, Page, get_page
from reactor.helpers.streams.stream import Stream, merged, stream

__all__ = ["IndexPage", "Page", "Stream", "get_page", "merged", "stream"]
