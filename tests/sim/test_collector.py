"""The collector process: what goes wrong there is said here."""

import pytest

from robot_wm.bags.align import align
from robot_wm.errors import BundleError, RunError
from sim.collector import Collect, Collector, Evaluate
from sim.tasks import make_task


@pytest.fixture(scope="module")
def collector():
    process = Collector("cartpole_swingup")
    yield process
    process.close()


def test_a_random_episode_comes_back_as_a_score_and_a_bag(collector, tmp_path):
    collector.submit(Collect(tmp_path / "bag", 3, None))

    score = collector.result()

    contract = make_task("cartpole_swingup").contract
    (episode,) = align(tmp_path / "bag", contract)
    assert len(episode) == 501
    assert 1000.0 * episode.reward[:-1].mean() == pytest.approx(score, rel=1e-4)


def test_an_error_of_a_job_is_raised_here_and_the_process_goes_on(collector, tmp_path):
    collector.submit(Evaluate(tmp_path / "nowhere", 1, 0))
    with pytest.raises(BundleError, match="nowhere"):
        collector.result()

    collector.submit(Evaluate(tmp_path / "elsewhere", 1, 0))
    with pytest.raises(BundleError, match="elsewhere"):
        collector.result()


def test_a_process_that_died_is_an_error_and_not_a_hang():
    process = Collector("no_such_task")
    with pytest.raises(RunError, match="died"):
        process.result()
    process.close()


def test_a_process_whose_answer_nobody_reads_ends_quietly(tmp_path, capfd):
    process = Collector("cartpole_swingup")
    process.submit(Collect(tmp_path / "bag", 3, None))
    while process.busy():
        pass
    process.close()
    assert capfd.readouterr().err == ""
