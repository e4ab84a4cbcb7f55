#!/usr/bin/env python3
"""Write the tables of docs/configuration.md from the table of keys and the files in configs/.

    python scripts/make_configuration_doc.py [FILE ...]     docs/configuration.md or the files
    python scripts/make_configuration_doc.py --check        exit code 1 where a file would change

Only what is between <!-- keys:... --> and <!-- end of keys --> changes; what may stand in a marker
is described in src/distill_cli/cli/help/document.py.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from distill_cli.cli.help.document import updated  # noqa: E402
from distill_cli.errors import UserError  # noqa: E402


def main() -> int:
    """Exit code: 0 written or up to date, 1 would change (--check), 2 wrong input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    parser.add_argument("--check", action="store_true", help="change nothing")
    options = parser.parse_args()
    stale = 0
    for path in options.files or [ROOT / "docs" / "configuration.md"]:
        try:
            text = path.read_text(encoding="utf-8")
            new = updated(text)
        except (OSError, UserError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            print(f"error: {path}: {reason}", file=sys.stderr)
            return 2
        if new != text and options.check:
            stale += 1
            print(
                f"{path}: its tables differ from the table of keys; run "
                "scripts/make_configuration_doc.py",
                file=sys.stderr,
            )
            continue
        if new != text:
            path.write_text(new, encoding="utf-8")
        print(f"{path}: {'rewritten' if new != text else 'up to date'}")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
