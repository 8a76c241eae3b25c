"""The folders that a run configuration points at."""

from pathlib import Path
from typing import Any

import yaml

__all__ = ["APIS_DIR", "PROVIDERS_DIR", "declares_messages"]

APIS_DIR = Path(__file__).parents[1] / "apis.d"
PROVIDERS_DIR = Path(__file__).parents[1] / "providers.d"


def declares_messages(folder: Path) -> bool:
    """Whether a file in a folder for `external_apis_dir` declares the Messages API."""
    return any(_named(file) == "messages" for file in folder.glob("*.yaml"))


def _named(file: Path) -> Any:
    try:
        spec = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    return spec.get("name") if isinstance(spec, dict) else None
