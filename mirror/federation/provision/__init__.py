"""Making the resources of AWS that the mirror needs: look, plan (pure), apply; a second run does nothing."""
