"""Video as HTTP Live Streaming (RFC 8216): playlists that lead an ordinary player to devices.

``playlist`` reads and rewrites playlists and does no I/O; ``playlists`` fetches them from a site's origin and serves
them.
"""
