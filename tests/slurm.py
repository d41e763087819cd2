"""A SLURM of one node on this machine: its daemons, started for a test and stopped after it."""

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

# this Python first, as in a virtual environment that is active; and where Debian has the daemons
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
MISSING = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(name, path=PATH) is None]

# Partition high takes the node from jobs in partition low, which get 60 seconds to end and are requeued.
_CONFIG = """
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
NodeName=localhost NodeAddr=127.0.0.1 NodeHostname=localhost CPUs=8 State=UNKNOWN
PartitionName=low Nodes=localhost Default=YES PriorityTier=1 GraceTime=60 MaxTime=INFINITE State=UP
PartitionName=high Nodes=localhost PriorityTier=2 PreemptMode=OFF State=UP
"""


class Slurm:
    """SLURM's commands.

    Args:
        folder: The configuration, state and logs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": PATH}

    def run(self, *command: str, cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> str:
        """Run a command to its end and return what it prints.

        Raises:
            AssertionError: It fails.
        """
        environment = {**(environment or os.environ), **self.environment}
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    def job(self, number: str) -> dict[str, str]:
        """What SLURM knows of a job, such as ``JobState``, ``Restarts`` and ``ExitCode``."""
        words = self.run("scontrol", "show", "job", "--oneliner", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait(self, number: str, *states: str, timeout: float = 240) -> dict[str, str]:
        """Wait until a job is in one of these states.

        Raises:
            TimeoutError: It was not after so many seconds.
        """
        end = time.monotonic() + timeout
        while (job := self.job(number))["JobState"] not in states:
            if time.monotonic() > end:
                raise TimeoutError(f"job {number} is {job['JobState']} and not {states} after {timeout} s")
            time.sleep(0.2)
        return job


@contextmanager
def started() -> Iterator[Slurm]:
    """Start SLURM, on the loopback interface alone, and stop it with all of its jobs."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # a short path: a socket's has at most 107 characters
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    controller_port, node_port = _free_ports(2)
    config = _CONFIG.format(folder=folder, user=getpass.getuser(), controller_port=controller_port, node_port=node_port)
    (folder / "slurm.conf").write_text(config)
    slurm = Slurm(folder)
    files = [f"--{name}-file={folder}/munged.{name}" for name in ("pid", "seed", "log")]
    daemons: list[subprocess.Popen[bytes]] = []
    with (folder / "daemons.log").open("wb") as log:

        def start(*command: str) -> subprocess.Popen[bytes]:
            environment = {**os.environ, **slurm.environment}
            daemons.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            return daemons[-1]

        def node_is_up(node: subprocess.Popen[bytes]) -> bool:
            _wait_for(lambda: node.poll() is not None or "idle" in _output("sinfo", slurm), folder)
            return node.poll() is None

        try:
            start("munged", "--foreground", "--force", f"--socket={folder}/munge.socket", f"--key-file={key}", *files)
            _wait_for((folder / "munge.socket").exists, folder)
            start("slurmctld", "-D", "-i")
            # no cgroup confines the jobs, which an older SLURM can't be told: it wants to know which one would
            for plugin in ("disabled", "cgroup/v1", "cgroup/v2"):
                (folder / "cgroup.conf").write_text(f"CgroupPlugin={plugin}\n")
                if node_is_up(start("slurmd", "-D", "-N", "localhost")):
                    break
            else:
                raise RuntimeError(f"slurmd ends at once:\n{(folder / 'slurmd.log').read_text()[-3000:]}")
            yield slurm
        finally:
            if left := _output("squeue", slurm).split():  # by a test that failed
                slurm.run("scancel", "--signal=KILL", "--full", *left)
                slurm.run("scancel", *left)
                _wait_for(lambda: not _output("squeue", slurm).strip(), folder)
            for daemon in reversed(daemons):
                daemon.terminate()
                try:
                    daemon.wait(timeout=20)
                except subprocess.TimeoutExpired:
                    daemon.kill()
                    daemon.wait()
    shutil.rmtree(folder, ignore_errors=True)


def _output(command: str, slurm: Slurm) -> str:
    formats = {"sinfo": "%T", "squeue": "%i"}
    done = subprocess.run(
        [command, "--noheader", f"--format={formats[command]}"],
        env={**os.environ, **slurm.environment},
        capture_output=True,
        text=True,
    )
    return done.stdout


def _wait_for(condition: Callable[[], bool], folder: Path) -> None:
    end = time.monotonic() + 30
    while not condition():
        if time.monotonic() > end:
            logs = "\n".join(f"{file.name}:\n{file.read_text()[-3000:]}" for file in sorted(folder.glob("*.log")))
            raise TimeoutError(f"SLURM has not come up, or not ended its jobs:\n{logs}")
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for number in sockets:
        number.bind(("127.0.0.1", 0))
    ports = [number.getsockname()[1] for number in sockets]
    for number in sockets:
        number.close()
    return ports
