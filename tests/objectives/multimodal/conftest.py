import sys
from pathlib import Path

# The tests of this folder share `loci`.
sys.path.append(str(Path(__file__).parent))
