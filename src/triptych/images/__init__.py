"""Image bytes and image files: decode, clean, resize, contact sheets, similarity, and storage under their sha256.

Other packages use these modules; importing them imports Pillow, so this file imports none of them:

    processing     verify, clean, fit, preview, encode: bytes in, bytes out
    files          `ImageFiles`: the stored files, and the way in for bytes from outside
    objects        `Objects`: the images in an object store (S3 and its like)
    object_files   `ObjectFiles`: `ImageFiles` over an object store, with copies in a bounded directory
    delivery       pictures made for use: cut or padded to a size, converted
    archives       zip archives of pictures, written file by file
    folders        the pictures in a folder or behind a pattern
    naming         safe names of files
    contact_sheet  several pictures on one labelled sheet
    similarity     how much each image of a set differs from the others

Inside stand `decoding`, `encoding`, `cleaning`, `metadata` (JPEG and PNG without metadata), `writing` (files written
whole) and `allowed_paths`.
"""

__all__ = [
    "archives",
    "contact_sheet",
    "delivery",
    "files",
    "folders",
    "naming",
    "object_files",
    "objects",
    "processing",
    "similarity",
]
