"""What watches over a run, so that one that learns nothing says so."""
