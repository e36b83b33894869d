"""The e-stop input: pressed, silent and never heard are each a fault; what was pressed for a moment is not missed."""

from robot_wm.estop_input import PRESSED, EstopInput
from robot_wm.timebase import NS_PER_S

MS = NS_PER_S // 1000


def test_all_is_clear_only_while_it_is_said_again_and_again():
    given = EstopInput(0.2)
    assert given.fault(0) == "the e-stop input has said nothing yet"
    given.say(True, 100 * MS)
    assert given.fault(300 * MS) == ""
    assert given.fault(351 * MS) == "the e-stop input is silent for 0.25 s"
    given.say(True, 400 * MS)
    assert given.fault(401 * MS) == ""


def test_a_stop_stands_until_it_is_taken_back_and_one_between_two_ticks_is_seen():
    given = EstopInput(0.2)
    given.say(False, 0)
    assert given.fault(1 * MS) == given.fault(2 * MS) == PRESSED
    given.say(True, 3 * MS)
    assert given.fault(4 * MS) == ""
    given.say(False, 5 * MS)
    given.say(True, 6 * MS)
    assert given.fault(10 * MS) == PRESSED
    assert given.fault(11 * MS) == ""
