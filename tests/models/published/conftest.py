import sys
from pathlib import Path

# The plain reference and the tiny checkpoints live beside the tests that use them.
sys.path.append(str(Path(__file__).parent))
