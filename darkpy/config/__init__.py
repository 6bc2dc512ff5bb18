"""Cfg text to typed keys: `text` parses sections with line numbers, `schema` turns keys into dataclass fields."""
