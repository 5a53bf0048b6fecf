"""Makes small pictures of screenshots.

python3 scripts/tracks_pictures.py FROM TO

Needs Pillow; writes palette PNG files, the report cut to its beginning.
"""

import pathlib
import sys

from PIL import Image

source, target = map(pathlib.Path, sys.argv[1:3])
HEIGHT = {"report": 1500, "telephone": 900}
for name in ("jbrowse", "igv", "report", "telephone"):
    picture = Image.open(source / f"{name}.png").convert("RGB")
    height = min(picture.height, HEIGHT.get(name, picture.height))
    picture = picture.crop((0, 0, picture.width, height))
    picture = picture.quantize(48, dither=Image.Dither.NONE)
    picture.save(target / f"tracks-{name}.png", optimize=True)
