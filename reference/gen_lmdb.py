"""Writes the golden file `crates/smd/tests/golden/lsun.mdb`: 120 pictures as LSUN keeps its own, in an LMDB of encoded images.

    pip install lmdb==3.0.0 numpy==2.4.6 pillow==13.0.0; python reference/gen_lmdb.py

Keys are hexadecimal digits, values lossless WebP, as published; every fortieth is a BMP, too large for its page, so that leaves,
branches and overflow pages are all there. Picture i, in the order of the keys, has the bytes
`(7 x + 13 y + 29 c + 31 i) mod 256` at column x, row y, channel c.
"""

import hashlib
import io
import shutil
import tempfile
from pathlib import Path

import lmdb
import numpy as np
from PIL import Image

GOLDEN = Path(__file__).parents[1] / "crates/smd/tests/golden/lsun.mdb"
IMAGES, SIDE = 120, 32


def picture(i: int) -> Image.Image:
    y, x, c = np.indices((SIDE, SIDE, 3))
    return Image.fromarray(((7 * x + 13 * y + 29 * c + 31 * i) % 256).astype(np.uint8))


def main() -> None:
    keys = sorted(hashlib.sha1(str(i).encode()).hexdigest() for i in range(IMAGES))
    with tempfile.TemporaryDirectory() as folder:
        with lmdb.open(folder, map_size=1 << 24) as env, env.begin(write=True) as txn:
            for i, key in enumerate(keys):
                file = io.BytesIO()
                if i % 40 == 0:
                    picture(i).save(file, "BMP")
                else:
                    picture(i).save(file, "WEBP", lossless=True)
                txn.put(key.encode(), file.getvalue())
        shutil.copy(Path(folder, "data.mdb"), GOLDEN)
    print(GOLDEN, GOLDEN.stat().st_size)


if __name__ == "__main__":
    main()
