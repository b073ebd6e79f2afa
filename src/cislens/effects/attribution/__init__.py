"""Which bases a prediction rests on."""
