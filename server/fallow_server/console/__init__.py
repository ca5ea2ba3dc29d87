"""What a browser sees at ``/``: one static page that says what this server is."""
