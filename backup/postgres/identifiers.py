"""Identifiers as PostgreSQL's programs print them."""

NAME = rb'(?:"(?:[^"]|"")+"|[^\s".(),;]+)'


def unquoted(name: bytes) -> str:
    """An identifier as the catalogue stores it."""
    text = name.decode(errors="surrogateescape")
    return text[1:-1].replace('""', '"') if text.startswith('"') else text
