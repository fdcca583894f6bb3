"""What Upwell serves: boards over HTTP (``web``) and SQL to people (``reader``)."""
