"""Genomes as what models of sequence alone train on: the store, its windows and their views."""
