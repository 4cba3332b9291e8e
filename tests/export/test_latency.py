from __future__ import annotations

from stillroom.export import latency


def test_calls_take_turns():
    order = []
    latency.time_calls({("a", ""): lambda: order.append("a"), ("b", ""): lambda: order.append("b")}, 1)
    turns = "".join(order)
    assert turns.startswith("aabb")
    assert "aaaabbbbaaaabbbb" in turns
