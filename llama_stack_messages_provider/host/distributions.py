"""Llama Stack's distributions and run configurations, as files. Imported late: the host takes a second.

| internal | used for |
|---|---|
| `config_resolution.resolve_config_or_distro`, which says a page where it finds nothing | `distribution_file` |
| `config_resolution._get_available_distros` | `distributions`, for people |
| `stack.replace_env_vars` | `with_variables` |

Tried with llama-stack 0.7.3.
"""

from pathlib import Path
from typing import Any

import yaml
from llama_stack.core.stack import EnvVarError, replace_env_vars
from llama_stack.core.utils import config_resolution

__all__ = ["distribution_file", "distributions", "with_variables"]


def distribution_file(name: str) -> Path | None:
    """The run configuration in a file, or of a distribution; None if there is none."""
    try:
        return config_resolution.resolve_config_or_distro(name)
    except ValueError:
        return None


def distributions() -> list[str]:
    """The names of those that have a run configuration."""
    return sorted(name for name in config_resolution._get_available_distros() if distribution_file(name))


def with_variables(text: str) -> dict[str, Any]:
    """A run configuration with its variables put in.

    Raises:
        ValueError: It is not YAML, or a variable without a default is not set.
    """
    try:
        config = replace_env_vars(yaml.safe_load(text))
    except (yaml.YAMLError, EnvVarError) as exc:
        raise ValueError(" ".join(str(exc).split())) from exc
    return config if isinstance(config, dict) else {}
