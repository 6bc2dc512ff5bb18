"""Reproduce trainings that went wrong in articles: python tools/cases.py alexnet, pooling or anchors.

docs/when-a-run-goes-wrong.md has the tables that it prints, and the conclusions.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, it finds tools/articles there
    from tools.articles.command import main

    main()
