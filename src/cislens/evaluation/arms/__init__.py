"""The contestants of a task: a representation under a head, a network trained on the task, or a
score that needs no training."""
