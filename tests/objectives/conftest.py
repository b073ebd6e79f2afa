import sys
from pathlib import Path

# The tests of this folder and those below share `views_by_hand`.
sys.path.append(str(Path(__file__).parent))
