"""The real instruments behind `mirror.doctor.ports`. They ask; none of them changes anything."""
