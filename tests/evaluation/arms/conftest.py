import sys
from pathlib import Path

# The model that is judged lives beside the tests that use it.
sys.path.append(str(Path(__file__).parent))
