"""launch/tpu_vm.sh up: from nothing to a finished stage, through preemptions, and what it does not repeat."""

import concurrent.futures
import re
import time

import pytest

V6E = "--accelerator=v6e-8"
WAY = ["tpu-vm create", "tpu-vm describe", "tpu-vm scp", "tpu-vm ssh", "tpu-vm describe", "tpu-vm ssh"]
UNTIL_GO = 'until [ -e "$CLOUD/go" ]; do /bin/sleep 0.02; done; echo end'
# The machine is taken away under the first life of the stage; the second finishes.
TAKEN_AWAY = """echo "life $(wc -l <"$CLOUD/created")"
[ "$(wc -l <"$CLOUD/created")" -gt %d ] || { echo %s >"$CLOUD/%s"; exec /bin/sleep 60; }"""


@pytest.fixture
def small(cloud):
    """The Cloud with machines of one worker, which take half the time."""
    cloud.write(size="1")
    return cloud


def lives(out):
    """The numbers of the lives that the logs tell of, in order."""
    return sorted(set(re.findall(r"worker\d: life (\d)", out)))


def count(cloud, action):
    """How often the workers were asked to start, follow and the like; they forget it, `delete` takes them."""
    return len(re.findall(rf"on_worker\.sh\\ {action}", (cloud.folder / "calls").read_text()))


def go_on_when(cloud, condition, *stage):
    """Runs `up` on the stage, which ends (UNTIL_GO) once condition() is true; returns what `up` printed."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        up = pool.submit(cloud, "up", V6E, "--", *stage)
        while not condition() and not up.done():
            time.sleep(0.02)
        cloud.write(go="")
        return up.result()


def test_from_nothing_to_a_finished_stage(cloud):
    out, error = cloud("up", V6E, "--", "sft", "--workdir=/a b")
    assert "worker0: step 1" in out and "worker1: step 1" in out
    assert cloud.ran(0) == [["--distributed", "sft", "--workdir=/a b"]]
    assert "has finished; n still runs and costs: launch/tpu_vm.sh delete --name=n --zone=z" in error
    calls = cloud.calls()
    assert calls[0] == "tpu-vm describe" and calls[1:5] == WAY[:4] and "tpu-vm delete" not in calls


def test_every_machine_is_set_up_anew(small, tmp_path):
    (tmp_path / "mount.sh").write_text('echo "mounted for life $(wc -l <"$CLOUD/created")"\n')
    small.write(stage=TAKEN_AWAY % (1, "PREEMPTED", "tpu-vm-n"))
    out, _ = small("up", V6E, f"--setup={tmp_path}/mount.sh", "--", "sft")
    assert [out.count(f"mounted for life {number}") for number in (1, 2)] == [1, 1]


def test_then_delete_deletes_once_the_stage_has_finished(small):
    small("up", V6E, "--then_delete", "--", "sft")
    assert small.calls()[-1] == "tpu-vm delete" and not (small.folder / "tpu-vm-n").exists()


def test_a_machine_that_is_taken_away_is_made_anew_and_the_stage_goes_on(small):
    small.write(stage=TAKEN_AWAY % (2, "PREEMPTED", "tpu-vm-n"))
    out, error = small("up", V6E, "--spot", "--", "rl", "--workdir=/w")
    assert lives(out)[-1] == "3" and count(small, "start") == 3
    made = [call for call in small.calls() if call in ("tpu-vm create", "tpu-vm delete", "tpu-vm scp")]
    assert made == ["tpu-vm create", "tpu-vm scp", *["tpu-vm delete", "tpu-vm create", "tpu-vm scp"] * 2]
    assert "restart 2 of at most 20" in error and "n is PREEMPTED" in error
    assert small.ran(0) == [["--distributed", "rl", "--workdir=/w"]]
    creations = re.findall(r"^.* create .*$", (small.folder / "calls").read_text(), re.MULTILINE)
    assert len(creations) == 3 and len(set(creations)) == 1 and "--spot" in creations[0]


def test_a_request_that_is_suspended_is_deleted_with_its_machine_and_stands_in_the_queue_again(small):
    small.write(stage=TAKEN_AWAY % (1, "SUSPENDED", "queued-resources-n"), requests="WAITING_FOR_RESOURCES\nACTIVE")
    out, _ = small("up", V6E, "--queued", "--spot", "--", "sft")
    assert lives(out)[-1] == "2"
    assert [call for call in small.calls() if "create" in call or "delete" in call] == [
        "queued-resources create", "queued-resources delete", "queued-resources create"]


def test_a_machine_under_repair_is_waited_for_and_what_runs_there_watched_again(cloud):
    cloud.write(repair="REPAIRING\n" * 15 + "READY",  # some of the looks at it say nothing
                stage=f"""[ "${{HOME##*/}}" = worker1 ] || mv "$CLOUD/repair" "$CLOUD/tpu-vm-n"; {UNTIL_GO}""")
    machine = cloud.folder / "tpu-vm-n"
    out, error = go_on_when(cloud, lambda: not (cloud.folder / "repair").exists() and count(cloud, "follow") > 1
                            and machine.read_text() == "READY\n", "sft")
    assert "n is REPAIRING; waiting" in error and "running already" in error
    assert "worker1: end" in out and count(cloud, "start") == 1


def test_a_request_whose_machine_somebody_deleted_is_deleted_too(small):
    small.write(stage="""[ "$(wc -l <"$CLOUD/created")" = 2 ] || { rm -f "$CLOUD/tpu-vm-n"; exec /bin/sleep 60; }
        echo life 2""")
    out, error = small("up", V6E, "--queued", "--", "sft")
    assert lives(out) == ["2"] and "queued-resources delete" in small.calls() and "n is TERMINATED" in error


def test_a_stage_that_went_down_with_its_worker_runs_again_there(small):
    small.write(stage="""[ -e ~/once ] || { : >~/once; kill -KILL -- "-$(cat ~/libra_run/pid)"; }; echo second""")
    out, error = small("up", V6E, "--", "sft")
    assert "worker0: second" in out and "cut short" in error
    assert count(small, "start") == 2 and small.calls().count("tpu-vm create") == 1


def test_slices_begin_again_together(small):
    small.write(stage=TAKEN_AWAY % (1, "PREEMPTED", "tpu-vm-n-1"))
    out, _ = small("up", V6E, "--slices=2", "--", "sft")
    assert lives(out)[-1] == "2" and "queued-resources delete" in small.calls()


def test_training_that_saves_when_asked_to_end_is_not_taken_for_finished(cloud):
    cloud.write(stage="""if [ "$(wc -l <"$CLOUD/created")" = 1 ]; then
        printf 'READY\\nREADY\\nREADY\\nPREEMPTED\\n' >"$CLOUD/tpu-vm-n"
        echo 'sft: stopped by SIGTERM after step 4/9, saved; run the same command to go on'; exit 143
        else echo 'life 2'; fi""")
    out, error = cloud("up", V6E, "--", "sft", poll=5)  # so that the stage has ended before the machine is looked at
    assert "worker0: sft: stopped by SIGTERM after step 4/9" in out and "worker0: life 2" in out
    assert "n is PREEMPTED" in error and cloud.calls().count("tpu-vm create") == 2


def test_a_stage_that_the_signal_ended_on_a_machine_that_stays_runs_again_there(cloud):
    cloud.write(stage="""[ -e "$CLOUD/once" ] || { : >"$CLOUD/once"; kill -TERM $$; }; echo second""")
    out, _ = cloud("up", V6E, "--", "rollout")
    assert "second" in out and count(cloud, "start") == 2 and cloud.calls().count("tpu-vm create") == 1


def test_a_stages_own_failure_is_not_repeated(small):
    small.write(stage='echo "error: no such config" >&2; exit 2')
    out, error = small("up", V6E, "--", "sft", status=2)
    assert "worker0: error: no such config" in out and "n still runs and costs" in error
    assert count(small, "start") == 1 and "tpu-vm delete" not in small.calls()
    small.write(stage="exit 7")  # an accident, after which the machine is looked at for a while
    small("up", V6E, "--then_delete", "--", "sft", status=7)
    assert count(small, "start") == 2 and "tpu-vm delete" not in small.calls()


def test_the_failure_of_workers_whose_machine_was_taken_away_is_no_failure_of_the_stage(cloud):
    cloud.write(stage="""if [ "$(wc -l <"$CLOUD/created")" = 1 ]; then
        printf 'READY\\nREADY\\nPREEMPTED\\n' >"$CLOUD/tpu-vm-n"; exit 1; fi; echo 'life 2'""")
    assert lives(cloud("up", V6E, "--", "sft", poll=5)[0]) == ["2"]


def test_restarts_have_an_end_and_take_ever_more_time(small):
    small.write(stage=TAKEN_AWAY % (9, "TERMINATED", "tpu-vm-n"))
    _, error = small("up", V6E, "--max_restarts=2", "--", "sft", status=2, poll=1)
    assert "has not finished after --max_restarts=2" in error and count(small, "start") == 3
    assert re.findall(r"beginning again in (\d+) s", error) == ["1", "2"]
    assert "2" in (small.folder / "slept").read_text().split()


def test_no_room_the_first_time_is_an_error_and_later_a_wait(small):
    small.write(no_room="")
    assert "--queued waits for it" in small("up", V6E, "--", "sft", status=2)[1]
    small.write(stage="""[ "$(wc -l <"$CLOUD/created")" = 2 ] || {
        : >"$CLOUD/no_room"; echo PREEMPTED >"$CLOUD/tpu-vm-n"; exec /bin/sleep 60; }""")
    _, error = small("up", V6E, "--", "sft")
    assert "no more capacity" in error and "restart 2" in error


def test_a_broken_connection_starts_nothing_anew(small):
    small.write(stage=UNTIL_GO, no_follow="")
    out, error = go_on_when(small, lambda: count(small, "follow") == 2, "sft")
    assert "connecting again" in error and "worker0: end" in out and count(small, "start") == 1


def test_what_runs_already_is_watched_and_nothing_else_is_disturbed(cloud):
    cloud("create", V6E)
    cloud("install")
    cloud.write(stage=UNTIL_GO)
    cloud("run", "--detach", "--", "sft", "--workdir=/a")
    assert "runs another stage" in cloud("up", V6E, "--", "rl", "--workdir=/a", status=2)[1]
    out, error = go_on_when(cloud, lambda: count(cloud, "follow") == 1, "sft", "--workdir=/a")
    assert "running already; watching it" in error and "worker1: end" in out and count(cloud, "start") == 1


def test_a_stage_that_was_asked_to_stop_is_not_begun_again(cloud):
    cloud.write(stage="""trap 'echo sft: stopped by SIGTERM after step 1/9; exit 143' TERM
        : >~/begun; while :; do /bin/sleep 0.02; done""")
    begun = [cloud.folder / f"worker{number}/begun" for number in (0, 1)]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        up = pool.submit(cloud, "up", V6E, "--", "sft", status=2)
        while not all(file.exists() for file in begun) and not up.done():
            time.sleep(0.02)
        cloud("stop")
        _, error = up.result()
    assert "the stage was asked to stop" in error and count(cloud, "start") == 1


def test_an_install_that_fails_on_a_machine_that_is_there_is_an_error(small):
    small.write(no_install="")
    _, error = small("up", V6E, "--", "sft", status=2)
    assert "installing or starting failed on a machine that is READY" in error and "no such version" in error
