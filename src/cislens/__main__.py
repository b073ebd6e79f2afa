"""The command `cislens`; where a library cannot be loaded, what the doctor says of that."""

import sys


def main() -> None:
    """Run the command line, or say why a library cannot be loaded, with exit code 2."""
    try:
        from cislens.cli.app import main as run

        run()
    except ImportError as error:
        from cislens.cli.doctor_report import examine, text

        report = examine()
        if report["works"]:  # the fault is our own
            raise
        sys.stderr.write(f"error: {error}\n{text(report)}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
