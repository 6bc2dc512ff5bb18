"""From cfg text to typed keys: `text` reads sections with their line numbers, `schema` turns keys into fields."""
