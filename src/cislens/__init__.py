"""cislens learns, judges and uses representations of regulatory DNA."""

__version__ = "0.1.0"
