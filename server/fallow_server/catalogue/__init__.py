"""What publishers publish: objects, their signed manifests and bytes, and the sites they may be pulled from.

``blobs`` keeps bytes as files, ``objects`` the rows, ``uploads`` and ``origin`` bring bytes in, ``mirror`` answers
``/s/…``, ``service`` is the HTTP side of it all.
"""
