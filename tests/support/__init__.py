"""What tests share: fakes that speak the real protocols, servers in processes of their own, files that are read."""

from pathlib import Path

SUPPORT = Path(__file__).parent
REPOSITORY = SUPPORT.parents[1]
