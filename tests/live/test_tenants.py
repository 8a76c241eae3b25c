"""Two tenants use one MCP server at once, on every path: seconds of what `benchmarks.hostile.tenants` does longer."""

from pathlib import Path

import pytest

from benchmarks.hostile.tenants import run


@pytest.mark.timeout(120)
def test_neither_ever_sees_what_is_the_other_s(tmp_path: Path) -> None:
    for tenant in run(tmp_path, 6):
        assert tenant.wrong == []
        assert tenant.found > 5
        kinds = {kind for kind, status in tenant.answers if status == 200}
        assert {"messages", "count_tokens", "batches"} <= kinds
