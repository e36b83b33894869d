"""Processes started and supervised by us: their own sessions, logs, niceness, and an end that leaves nothing behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from robot_wm.errors import RunError
from robot_wm.launched_by import VARIABLE

KILL_S = 2.0  # longest wait for a killed process
LAST_LINES = 3
NICENESS = -10  # a run goes before everything else on the machine
DOMAINS = range(20, 100)  # below the range of ephemeral ports on Linux (up to 101), away from the default 0
LOOPBACK_ONLY = """<?xml version="1.0" encoding="UTF-8"?>
<profiles xmlns="http://www.eprosima.com">
  <transport_descriptors>
    <transport_descriptor>
      <transport_id>loopback</transport_id>
      <type>UDPv4</type>
      <sendBufferSize>1048576</sendBufferSize>
      <receiveBufferSize>1048576</receiveBufferSize>
      <maxInitialPeersRange>32</maxInitialPeersRange>
      <interfaceWhiteList><address>127.0.0.1</address></interfaceWhiteList>
    </transport_descriptor>
  </transport_descriptors>
  <participant profile_name="local" is_default_profile="true">
    <rtps>
      <builtin>
        <initialPeersList>
          <locator><udpv4><address>127.0.0.1</address></udpv4></locator>
        </initialPeersList>
      </builtin>
      <userTransports><transport_id>loopback</transport_id></userTransports>
      <useBuiltinTransports>false</useBuiltinTransports>
    </rtps>
  </participant>
</profiles>
"""
PORT_BASE, PORT_GAIN, UNICAST = 7400, 250, 10  # DDS-RTPS 2.2, section 9.6.1.1


@dataclass(frozen=True)
class Command:
    """One process: `arguments` follow the Python interpreter."""

    name: str
    arguments: tuple[str, ...]
    priority: int = 0  # SCHED_RR priority, for what must answer in time; 0: ordinary scheduling


class Supervisor:
    """Starts commands, notices when one ends, and ends them all."""

    def __init__(self, logs: Path, environment: Mapping[str, str]) -> None:
        self.logs = logs
        self.environment = {**environment, VARIABLE: str(os.getpid())}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.commands: dict[str, Command] = {}
        self.started = 0
        self.realtime = True  # every priority asked for was granted
        logs.mkdir(parents=True, exist_ok=True)

    def start(self, command: Command) -> None:
        """Start (again). Its output goes to `<logs>/<name>.log`; a Ctrl-C on the terminal reaches only us."""
        with open(self.logs / f"{command.name}.log", "ab") as log:
            self.processes[command.name] = subprocess.Popen(
                [sys.executable, *command.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,
            )
        self.realtime &= _prioritise(self.processes[command.name].pid, command.priority)
        self.commands[command.name] = command
        self.started += 1

    def restart(self, name: str) -> None:
        """End the process if it runs and start the same command again."""
        command = self._known(name)
        self.stop([name])
        self.start(command)

    def kill(self, name: str) -> None:
        """SIGKILL, as a crash would end it; `check` no longer complains of it."""
        self._known(name)
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def freeze(self, name: str) -> None:
        """SIGSTOP: the process keeps what it has open and does nothing any more."""
        self._known(name)
        self.processes[name].send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let a frozen process go on."""
        self._known(name)
        self.processes[name].send_signal(signal.SIGCONT)

    def running(self) -> list[str]:
        return [name for name, process in self.processes.items() if process.poll() is None]

    def check(self) -> None:
        """Raise RunError naming the process that has ended, with the last lines it said."""
        for name, process in self.processes.items():
            status = process.poll()
            if status is not None:
                raise RunError(f"{name} ended with {_status(status)}: {self.last_words(name)}")

    def last_words(self, name: str) -> str:
        """The last lines of a process's log, on one line."""
        log = self.logs / f"{name}.log"
        lines = log.read_text(errors="replace").split("\n") if log.exists() else []
        said = [line.strip() for line in lines if line.strip()]
        return " / ".join(said[-LAST_LINES:]) or f"it said nothing (see {log})"

    def stop(self, names: Sequence[str] | None = None, patience_s: float = 5.0) -> list[str]:
        """Ask the processes (default: all, frozen ones too) to end with SIGINT; kill what has not after `patience_s`.

        Returns those killed.
        """
        wanted = list(self.processes) if names is None else [name for name in names if name in self.processes]
        for name in wanted:
            with contextlib.suppress(ProcessLookupError):
                self.processes[name].send_signal(signal.SIGINT)
                self.processes[name].send_signal(signal.SIGCONT)
        deadline = time.monotonic() + patience_s
        killed = []
        for name in wanted:
            process = self.processes.pop(name)
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                killed.append(name)
                process.kill()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(KILL_S)  # bounded: a Ctrl-C in the middle of `poll` leaves the Popen's own lock taken
        return killed

    def _known(self, name: str) -> Command:
        if name not in self.commands:
            raise RunError(f"no process {name!r}; there are {', '.join(self.commands)}")
        return self.commands[name]


@contextlib.contextmanager
def free_domain(candidates: Iterable[int] = DOMAINS) -> Iterator[int]:
    """Reserve a ROS domain that nobody on this machine uses, among our launchers by a lock file and otherwise by its port.

    Raises:
        RunError: all are taken.
    """
    folder = Path(tempfile.gettempdir())
    for domain in candidates:
        with open(folder / f"robot_wm_domain_{domain}.{os.getuid()}.lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if _in_use(domain):
                continue
            yield domain
            return
    raise RunError("no free ROS domain on this machine; end other runs or set ROS_DOMAIN_ID")


def local_environment(domain: int, folder: Path) -> dict[str, str]:
    """This process's environment for ROS processes that talk to nobody but each other on this machine.

    The middleware's own way to stay local (ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST) always uses shared memory, so we say the
    same with UDP on the loopback interface; see `without_shared_memory`.
    """
    profiles = folder / "fastdds.xml"
    profiles.write_text(LOOPBACK_ONLY)
    environment = without_shared_memory(folder) | {
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET",
        "FASTRTPS_DEFAULT_PROFILES_FILE": str(profiles),
        "FASTDDS_DEFAULT_PROFILES_FILE": str(profiles),
    }
    environment.pop("ROS_LOCALHOST_ONLY", None)
    return environment


def without_shared_memory(folder: Path) -> dict[str, str]:
    """This process's environment for ROS processes whose messages go over UDP.

    With Fast DDS's shared memory a writer waits up to a third of a second, inside `publish`, for the port of a reader that was
    killed or has just come: measured as 33 missed ticks of a 100 Hz motor loop. And a killed process leaves files in /dev/shm.
    """
    environment = dict(os.environ) | {"ROS_LOG_DIR": str(folder / "logs"), "PYTHONUNBUFFERED": "1"}
    environment["FASTDDS_BUILTIN_TRANSPORTS"] = "UDPv4"
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        environment.setdefault(name, "1")
    return environment


def _prioritise(pid: int, priority: int) -> bool:
    """Raise a new process over the rest of the machine, where that is permitted; False where it was not.

    Linux shares the processor between sessions first (sched(7), autogroup), so its own niceness alone would do nothing.
    """
    try:
        os.setpriority(os.PRIO_PROCESS, pid, NICENESS)
        with contextlib.suppress(FileNotFoundError):  # a kernel without autogroups
            Path(f"/proc/{pid}/autogroup").write_text(str(NICENESS))
        if priority:
            os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(priority))
    except OSError:
        return False
    return True


def _in_use(domain: int) -> bool:
    """Whether some participant listens on the domain's first unicast port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", PORT_BASE + PORT_GAIN * domain + UNICAST))
        except OSError:
            return True
    return False


def _status(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
