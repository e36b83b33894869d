import threading

from robot_wm.mailbox import Mailbox


def test_the_newest_item_wins():
    box = Mailbox()
    assert box.take() is None
    box.put(1)
    box.put(2)
    assert box.take() == 2
    assert box.take() is None


def test_a_deeper_box_keeps_the_newest_items_in_order():
    box = Mailbox(depth=3)
    for item in range(5):
        box.put(item)
    assert box.drain() == [2, 3, 4]
    assert box.drain() == []


def test_a_reader_never_sees_items_go_back_while_a_writer_runs():
    box, seen = Mailbox(depth=4), []
    writer = threading.Thread(target=lambda: [box.put(i) for i in range(20_000)])
    writer.start()
    while writer.is_alive():
        seen += box.drain()
    writer.join()
    seen += box.drain()
    assert seen == sorted(set(seen))
    assert seen[-1] == 19_999
