"""The command `distill-export`."""

import sys

from omegaconf import DictConfig

from distill_cli.cli.compose import with_coreset_paths
from distill_cli.cli.errors import exit_codes, job_errors
from distill_cli.cli.help.answer import answered
from distill_cli.config import config_dir, plain
from distill_cli.errors import UserError
from distill_cli.naming import register_resolvers
from distill_cli.typed import build


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 cannot write, 2 wrong input."""
    if answered("distill-export", sys.argv[1:]):
        return
    import hydra

    register_resolvers()
    with exit_codes("export"):
        sys.argv[1:] = with_coreset_paths(sys.argv[1:])
        hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="export")(task)()


def task(composed: DictConfig) -> None:
    """One job of Hydra's."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    with job_errors(HydraConfig.get().mode == RunMode.MULTIRUN):
        if not composed.coreset.path:  # before the slow imports
            raise UserError("coreset: missing; give coreset=<run folder or coreset file>")
        from distill_cli.tasks.export import Config, run

        done = run(build(Config, plain(composed)))
    for line in done["warnings"]:
        print(f"warning: {line}", file=sys.stderr)
    height, width, channel = done["images"][1:]
    print(
        f"exported {done['images'][0]} images {height}x{width}x{channel}, "
        f"{len(done['class_names'])} classes, as {done['format']}: {done['folder']}"
    )


if __name__ == "__main__":
    sys.exit(main())
