import sys
from pathlib import Path

# The planted tables live beside the tests that use them.
sys.path.append(str(Path(__file__).parent))
