"""Engines that reach beyond one machine."""
