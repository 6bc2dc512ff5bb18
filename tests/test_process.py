"""Threads that compute."""

from __future__ import annotations

import pytest

from darkpy.process import let_waiting_threads_sleep


@pytest.mark.parametrize(
    ("told", "spins"), [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)]
)
def test_waiting_threads_sleep_soon_unless_the_environment_says_otherwise(
    told: dict[str, str], spins: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = dict(told)
    monkeypatch.setattr("os.environ", environment)
    let_waiting_threads_sleep()
    assert environment.get("GOMP_SPINCOUNT") == spins
