"""Stage a: tests marked gpu, steps against the CPU backend, resuming bit for bit.

The three run at the same time: nothing is timed here, and each leaves most of the card idle.
"""

import os
import subprocess
import sys
import threading
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gpu_stages.record import Call, Record, brief, parse

ROOT = Path(__file__).resolve().parents[2]
OWN = "test_gpu_steps.py"  # its tests are what this stage does itself


def marked_files() -> list[str]:
    """Test files with tests marked gpu, so that no other is collected."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(f) for f in files if "pytest.mark.gpu" in f.read_text() and f.name != OWN]


def marked_tests(call: Call, limit: float) -> dict[str, Any]:
    """Counts of `pytest -m gpu` and the message of each failure."""
    report, files = call.work / "gpu_tests.xml", marked_files()
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, f"--junitxml={report}", *files],
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit,
    )  # fmt: skip
    if not report.is_file():
        raise RuntimeError(
            f"pytest: exit code {done.returncode}: {(done.stdout + done.stderr)[-500:]}"
        )
    counts: dict[str, Any] = {"exit_code": done.returncode, "files": len(files)}
    suite = ElementTree.parse(report).getroot().find("testsuite")
    assert suite is not None
    counts |= {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
    counts["failed"] = [
        {"test": f"{case.get('classname')}::{case.get('name')}",
         "said": str(failure.get("message"))[:500]}
        for case in suite.iter("testcase") for failure in case.iter("failure")
    ]  # fmt: skip
    return counts


def in_background(
    record: Record, lock: threading.Lock, name: str, function: Any
) -> threading.Thread:
    """Run function() -> dict in a thread and put what it gives, or its error, under `name`."""

    def run() -> None:
        try:
            found = function()
        except Exception as error:
            found = {"error": brief(error)}
        with lock:
            record.put(**{name: record.values.get(name, {}) | found})

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def main() -> int:
    call = parse()
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # several processes share the card
    record, lock = Record(call.record), threading.Lock()
    from gpu_stages.runs import same_bits

    def left() -> float:
        return call.left() - 3

    def partly(found: dict[str, Any]) -> None:
        with lock:
            record.put(same_bits=found)

    threads = [
        in_background(record, lock, "same_bits", lambda: same_bits(call.work, left, partly=partly)),
        in_background(record, lock, "tests", lambda: marked_tests(call, left())),
    ]
    import jax

    from distill_cli.tasks.runtime import configure_jax

    configure_jax()
    from gpu_stages.steps import CASES, compare

    def compared(case: Any) -> None:
        row: dict[str, Any] = {"step": case.name, "device": jax.devices()[0].device_kind}
        try:
            row |= compare(case)
        except Exception as error:
            row["error"] = brief(error)
        with lock:
            record.row("steps", row)

    # Their time is that of compilers, of which several may run.
    cases = CASES[:1] + CASES[-1:] if call.rehearse else CASES
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        list(pool.map(compared, cases))
    for thread in threads:
        thread.join(max(0.0, call.left() - 1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
