"""The words of `queue drain`."""

from bisnesctl.queue.drain import Drain


def progress(*looks):
    drain = Drain.__new__(Drain)
    drain._seen, drain.left = list(looks), looks[-1][1]
    return drain.progress


def test_the_first_look_says_nothing_about_a_rate():
    assert progress((0.0, 5)) == "5 messages are left"


def test_later_looks_have_a_rate():
    assert progress((0.0, 5), (2.0, 1)) == "1 message is left; 2.0 a second; 0s to go"
    assert progress((0.0, 5), (2.0, 5)) == "5 messages are left; none fewer in the last 2s"
