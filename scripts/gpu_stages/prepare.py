"""In the background from the start: decode CIFAR-10 and fit its whitening on the CPU, so that the
stages that need them find both in the cache; and a sample of the images for stage b."""

import os
import sys
import time

from gpu_stages.record import Record, parse

SAMPLE_IMAGES = 5120 + 500


def main() -> int:
    os.environ["JAX_PLATFORMS"] = "cpu"
    call = parse()
    record, begun = Record(call.record), time.monotonic()
    from distill_cli.cli.compose import compose
    from distill_cli.config import parse as parse_config
    from distill_cli.core.files import write_npz
    from distill_cli.tasks.problem import load_problem
    from gpu_stages.problems import SAMPLE
    from gpu_stages.published import settings

    call.stage = "d"
    problem = load_problem(parse_config(compose("config", settings(call))))
    record.put(loaded_s=round(time.monotonic() - begun, 1), train=len(problem.train_rows))
    if problem.dataset.name == "cifar10" and not call.rehearse:
        rows = slice(0, SAMPLE_IMAGES)
        images = problem.preprocess.apply_numpy_chunks(problem.dataset.train.images[rows])
        labels = problem.dataset.train.labels[rows]
        write_npz(call.work / SAMPLE, {"images": images, "labels": labels})
    record.put(seconds=round(time.monotonic() - begun, 1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
