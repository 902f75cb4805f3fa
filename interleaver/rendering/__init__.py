"""Rendering of documents as HTML and Markdown, and of templates in general."""
