"""Image bytes and image files: decode, clean, resize, contact sheets, similarity, and storage under their sha256.

Other packages use these modules; importing them imports Pillow, so this file imports none of them:

    processing     verify, clean, fit, preview, encode: bytes in, bytes out
    files          `ImageFiles`: the stored files, and the way in for bytes from outside
    folders        the pictures in a folder or behind a pattern
    contact_sheet  several pictures on one labelled sheet
    similarity     how much each image of a set differs from the others

Inside stand `decoding`, `encoding`, `cleaning`, `metadata` (JPEG and PNG without metadata) and `allowed_paths`.
"""

__all__ = ["contact_sheet", "files", "folders", "processing", "similarity"]
