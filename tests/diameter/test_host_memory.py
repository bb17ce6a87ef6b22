"""Users and their hosts."""

from __future__ import annotations

from diameter.host_memory import HostMemory

SH, CX = 16777217, 16777216


def test_hosts_are_per_application_and_user() -> None:
    memory = HostMemory()
    memory.learn(SH, "sip:a@x", "hss1")
    assert memory.find(SH, "sip:a@x") == "hss1"
    assert memory.find(CX, "sip:a@x") is None
    memory.learn(SH, "sip:a@x", "hss2")
    assert memory.find(SH, "sip:a@x") == "hss2"
    memory.forget(SH, "sip:a@x")
    memory.forget(SH, "sip:a@x")
    assert memory.find(SH, "sip:a@x") is None


def test_least_recently_used_goes_first() -> None:
    memory = HostMemory(max_users=2)
    memory.learn(SH, "a", "h")
    memory.learn(SH, "b", "h")
    memory.find(SH, "a")
    memory.learn(SH, "c", "h")
    assert [memory.find(SH, user) for user in "abc"] == ["h", None, "h"]
    assert len(memory) == 2
