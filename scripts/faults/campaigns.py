"""The campaigns: what is done to a command, and what has to be true afterwards.

Each is a generator of (case, what is wrong), "" where nothing is.
"""

import contextlib
import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from faults.jobs import JOBS, Job, essence, files
from faults.process import Ended, finish, run, start, stopped_after

Case = tuple[str, str]
CLOCK = """import random, time
_offset, _real, _draw = [0.0], time.time, random.Random({seed})
def _jumping():
    if _draw.random() < 0.02:
        _offset[0] += _draw.choice([-86400.0, -3600.0, 3600.0, 86400.0])
    return _real() + _offset[0]
time.time = _jumping
"""


@dataclass
class Ground:
    """Where it happens: a folder, a finished run, each job's reference and its seconds."""

    work: Path
    seed: int
    jobs: tuple[Job, ...] = JOBS
    made: Path = field(default_factory=Path)
    references: dict[str, dict[str, str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    count: int = 0

    def draw(self, name: str) -> random.Random:
        """Random numbers of a campaign."""
        return random.Random(f"{self.seed} {name}")

    def out(self) -> Path:
        """A new folder of results."""
        self.count += 1
        return self.work / f"out{self.count}"

    def line(self, job: Job, out: Path) -> list[str]:
        return job.line(self.work, out, self.made)

    def verdict(self, job: Job, out: Path, ended: Ended, *, clean: bool = True) -> str:
        """What is wrong with a command that had to end well, and with its results; the folder is
        taken away where nothing is."""
        wrong = ended.complaint
        if not wrong and ended.code:
            wrong = f"exit code {ended.code}: {ended.said.strip()[-300:]}"
        if not wrong:
            wrong = difference(self.references[job.name], essence(out))
        if clean and not wrong:
            shutil.rmtree(out, ignore_errors=True)
        return wrong


def difference(wanted: dict[str, str], found: dict[str, str]) -> str:
    """In words; "" where the results are the same."""
    missing, more = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    other = [name for name in wanted.keys() & found.keys() if wanted[name] != found[name]]
    parts = (("missing", missing), ("more", more), ("other content", other))
    return "; ".join(f"{what}: {', '.join(sorted(names))}" for what, names in parts if names)


def kills(ground: Ground, number: int) -> Iterator[Case]:
    """kill -9 at random moments, up to three in a row in one folder; then the command finishes."""
    draw, done = ground.draw("kills"), 0
    while done < number:
        job, out = ground.jobs[done % len(ground.jobs)], ground.out()
        moments = []
        for _ in range(min(draw.randint(1, 3), number - done)):
            moments.append(draw.uniform(0.1, 1.0) * ground.seconds[job.name])
            stopped_after(ground.line(job, out), ground.work, moments[-1], signal.SIGKILL)
        done += len(moments)
        ended = run(ground.line(job, out), ground.work)
        at = ", ".join(f"{moment:.1f}" for moment in moments)
        for _ in moments:
            yield f"kill -9 {job.name} after {at} s", ground.verdict(job, out, ended, clean=False)


def signals(ground: Ground, number: int) -> Iterator[Case]:
    """SIGINT or SIGTERM at a random moment; the command says so in one line, then finishes."""
    draw = ground.draw("signals")
    for at in range(number):
        job, out = ground.jobs[at % len(ground.jobs)], ground.out()
        kind = (signal.SIGINT, signal.SIGTERM)[at // len(ground.jobs) % 2]
        moment = draw.uniform(0.1, 1.0) * ground.seconds[job.name]
        ended = stopped_after(ground.line(job, out), ground.work, moment, kind)
        wrong = ended.complaint
        if not wrong and ended.code not in (0, 128 + kind, -kind):
            wrong = f"exit code {ended.code} of a signal {kind}: {ended.said.strip()[-300:]}"
        again = run(ground.line(job, out), ground.work)
        wrong = wrong or ground.verdict(job, out, again)
        yield f"{kind.name} {job.name} after {moment:.1f} s", wrong


def pairs(ground: Ground, number: int) -> Iterator[Case]:
    """The same command twice at the same moment: one goes on untouched, the other ends with one
    line and exit code 2, or finds the result of the first."""
    draw = ground.draw("pairs")
    for at in range(number):
        job, out = ground.jobs[at % len(ground.jobs)], ground.out()
        first = start(ground.line(job, out), ground.work)
        with contextlib.suppress(subprocess.TimeoutExpired):
            first.wait(draw.choice([0.0, 0.0, 0.05, 0.5]))
        second = start(ground.line(job, out), ground.work)
        ended = [finish(first), finish(second)]
        codes = sorted(one.code for one in ended)
        wrong = next((one.complaint for one in ended if one.complaint), "")
        if not wrong and codes not in ([0, 0], [0, 2]):
            wrong = f"exit codes {codes}: {' / '.join(one.said.strip()[-200:] for one in ended)}"
        good = next((one for one in ended if one.code == 0), ended[0])
        yield f"twice {job.name}", wrong or ground.verdict(job, out, good)


def full_disks(ground: Ground, number: int) -> Iterator[Case]:
    """A disk of a few kB to MB: one line and exit code 1, and on a larger one the command goes on
    from what is there. A file system in memory of its own where the system allows that, else a
    limit on the length of files."""
    mounts = (
        shutil.which("unshare")
        and not subprocess.run(
            ["unshare", "-rm", "true"], capture_output=True, check=False
        ).returncode
    )
    for at in range(number):
        job, out = ground.jobs[at % len(ground.jobs)], ground.out()
        size = int(8192 * 1.9**at) // 4096 * 4096
        out.mkdir()
        line = ground.line(job, out)
        if mounts:
            script = (
                f'mount -t tmpfs -o size={size} none "$0" && {{ "$@"; code=$?; '
                f'mkdir "$0.kept"; cp -a "$0"/. "$0.kept"; exit $code; }}'
            )
            ended = run(line, ground.work, prefix=["unshare", "-rm", "sh", "-c", script, str(out)])
            kept = out.with_name(f"{out.name}.kept")
            if kept.is_dir():
                out.rmdir()
                kept.rename(out)
        else:
            script = f'ulimit -f {size // 512}; exec "$@"'
            ended = run(line, ground.work, prefix=["sh", "-c", script, "sh"])
        wrong = ended.complaint
        if not wrong and ended.code not in (0, 1):
            wrong = f"exit code {ended.code}: {ended.said.strip()[-300:]}"
        again = run(line, ground.work)
        how = "a disk" if mounts else "files of at most"
        wrong = wrong or ground.verdict(job, out, again)
        yield f"{how} {size // 1024} kB: {job.name}", wrong


def cut(content: bytes, draw: random.Random) -> bytes:
    return content[: len(content) // 2]


def emptied(content: bytes, draw: random.Random) -> bytes:
    return b""


def flipped(content: bytes, draw: random.Random) -> bytes:
    if not content:
        return b"\0"
    place = draw.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :]


HOWS: tuple[Callable[[bytes, random.Random], bytes], ...] = (cut, emptied, flipped)


def damage(ground: Ground, number: int) -> Iterator[Case]:
    """Each file of a finished and of a half-finished run cut, emptied, or with one bit flipped
    (`number` of these cases, drawn at random; all where there are fewer): the same command ends
    with the same coreset, or refuses with one line and leaves everything as it was."""
    draw, job = ground.draw("damage"), JOBS[0]
    states = {"finished": ground.out(), "half": ground.out()}
    run(ground.line(job, states["finished"]), ground.work)
    half = ground.seconds[job.name] * 0.75
    for _ in range(5):
        stopped_after(ground.line(job, states["half"]), ground.work, half, signal.SIGKILL)
        if list(states["half"].rglob("checkpoints/*/*")):
            break
    cases = [
        (state, path.relative_to(out), how)
        for state, out in states.items()
        for path in files(out)
        for how in HOWS
        if path.name not in (".lock", "distill.log")
    ]
    for state, name, how in draw.sample(cases, min(number, len(cases))):
        place = ground.work / "damaged"
        shutil.rmtree(place, ignore_errors=True)
        kept = states[state].rename(place)
        shutil.copytree(kept, states[state])
        out = states[state]
        (out / name).write_bytes(how((out / name).read_bytes(), draw))
        ended = run(ground.line(job, out), ground.work)
        wrong = ended.complaint
        if not wrong and ended.code == 0:
            wrong = ground.verdict(job, out, ended, clean=False)
        elif not wrong and ended.code not in (1, 2):
            wrong = f"exit code {ended.code}: {ended.said.strip()[-300:]}"
        shutil.rmtree(out)
        place.rename(out)
        yield f"{how.__name__} {name} of a {state} run: exit {ended.code}", wrong


def clocks(ground: Ground, number: int) -> Iterator[Case]:
    """A wall clock that jumps by hours and days, forwards and backwards."""
    for at in range(number):
        job, out = ground.jobs[at % len(ground.jobs)], ground.out()
        folder = ground.work / f"clock{at}"
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(CLOCK.format(seed=ground.seed + at))
        path = f"{Path(__file__).resolve().parents[2] / 'src'}:{folder}"
        ended = run(ground.line(job, out), ground.work, more={"PYTHONPATH": path})
        yield f"a jumping clock: {job.name}", ground.verdict(job, out, ended)


CAMPAIGNS: dict[str, tuple[Callable[[Ground, int], Iterator[Case]], int]] = {
    "kills": (kills, 56), "signals": (signals, 28), "pairs": (pairs, 21), "disk": (full_disks, 14),
    "damage": (damage, 200), "clock": (clocks, 7),
}  # fmt: skip
