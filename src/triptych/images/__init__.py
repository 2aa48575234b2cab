"""Picture bytes: decode, clean, resize, contact sheets, similarity, and the files under their sha256."""
