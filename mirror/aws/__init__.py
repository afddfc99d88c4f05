"""What every AWS client has in common: the session, and the stable codes of failures."""
