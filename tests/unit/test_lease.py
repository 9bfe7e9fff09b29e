"""The lease: held from an answered heartbeat for less than the session timeout."""

from stream.protocol.assignment import Lease


def test_a_new_lease_is_not_held() -> None:
    """Nothing leaves before the broker has answered once."""
    assert not Lease(10.0).is_held(0.0)


def test_a_lease_ends_before_the_session_does() -> None:
    """What was sent at the last moment must still reach the broker in time."""
    lease = Lease(10.0)
    lease.renew(sent_s=100.0)

    assert lease.is_held(108.9)
    assert not lease.is_held(109.1)


def test_an_old_answer_does_not_shorten_a_lease() -> None:
    """Answers can be noted out of order."""
    lease = Lease(10.0)
    lease.renew(sent_s=100.0)
    lease.renew(sent_s=95.0)

    assert lease.is_held(108.0)


def test_a_void_lease_is_not_held_until_it_is_renewed() -> None:
    """The broker did not know the member; then it joined again."""
    lease = Lease(10.0)
    lease.renew(sent_s=100.0)
    lease.void(101.0)
    held = lease.is_held(101.0)
    lease.renew(sent_s=102.0)

    assert not held
    assert lease.is_held(103.0)
